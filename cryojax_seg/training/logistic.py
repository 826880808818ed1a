"""Fits logistic regressions, whose loss is convex: for one class, or for several."""

import numpy as np

CORRELATED = 10  # neighbouring voxels that count as one observation
_ITERATIONS = 60
_PRECISION = 1e-6  # relative change of the loss at which it ends


def fit_logistic(
    features: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    deviation: float,
    offset: np.ndarray | float = 0.0,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of features and the biases of the greatest posterior probability.

    Logits are ``offset + features @ kernel + bias``. A weight has a normal prior around 0, and a
    bias none. L-BFGS (Liu and Nocedal 1989) finds the minimum of the loss within tens of products
    of a matrix. Ten voxels count as one observation, since neighbours are correlated.

    Args:
        features: ``(voxel, feature)``.
        targets: ``(voxel, output)``, probabilities; one output is a sigmoid, several a softmax.
        weights: ``(voxel,)``.
        deviation: standard deviation of the prior of a weight.
        offset: ``(voxel, output)``, logits that are known before.
        start: kernel and bias to begin with.

    Returns:
        the kernel ``(feature, output)`` and the bias ``(output,)``.

    >>> x = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    >>> kernel, bias = fit_logistic(x, 1.0 * (x > 0.5), np.ones(1000), deviation=10.0)
    >>> bool(abs(-bias[0] / kernel[0, 0] - 0.5) < 0.05)
    True
    """
    from scipy.optimize import minimize  # slow to load

    (n, width), outputs = features.shape, targets.shape[1]
    targets, share = targets.astype(np.float32), weights / weights.sum()
    ridge = CORRELATED / (2 * n * deviation**2)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = flat[: width * outputs].reshape(width, outputs)
        logits = features @ kernel.astype(np.float32) + flat[width * outputs :] + offset
        if outputs == 1:
            value = np.logaddexp(0, logits) - targets * logits
            slope = 1 / (1 + np.exp(-logits)) - targets
        else:
            shifted = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            value = -targets * shifted
            slope = np.exp(shifted) - targets
        slope = (share[:, None] * slope).astype(np.float32)
        gradient = features.T @ slope + 2 * ridge * kernel
        total = float(share @ value.sum(1)) + ridge * float((kernel**2).sum())
        return total, np.concatenate([gradient.ravel(), slope.sum(0)]).astype(np.float64)

    first = np.zeros(width * outputs + outputs)
    if start is not None:
        first = np.concatenate([start[0].ravel(), start[1]])
    found = minimize(
        loss,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxcor": 20, "ftol": _PRECISION},
    )
    return found.x[: width * outputs].reshape(width, outputs), found.x[width * outputs :]
