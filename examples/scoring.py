"""
Functions that score: a boosted model, and a network in numpy
=============================================================

A scoring function takes params and data and returns a number, or a pair of a number and an
extra that is kept with it.  One of these takes a dict of params, the other one takes them by
name.  driver.py searches over their params; this file alone calls each function once, without
a database.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split


def boosted_log_loss(params, X, y):
    """Log-loss of gradient boosting on held-out rows; it stops when it gets no better."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    model = HistGradientBoostingClassifier(
        max_iter=100, early_stopping=True, n_iter_no_change=5, random_state=0, **params
    )
    model.fit(X_train, y_train)
    loss = log_loss(y_test, model.predict_proba(X_test))
    return loss, {"iterations": int(model.n_iter_), "curve": model.validation_score_.tolist()}


class Network:
    """Two layers, in the style of torch: forward, backward, step."""

    def __init__(self, n_in, n_hidden, n_out, activation, rng):
        self.W1 = rng.normal(0, n_in**-0.5, (n_in, n_hidden))
        self.W2 = rng.normal(0, n_hidden**-0.5, (n_hidden, n_out))
        self.activate, self.slope = {
            "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
            "tanh": (np.tanh, lambda a: 1 - a**2),
        }[activation]

    def forward(self, X):
        self.X, self.hidden = X, self.activate(X @ self.W1)
        scores = self.hidden @ self.W2
        exp = np.exp(scores - scores.max(axis=1, keepdims=True))
        self.proba = exp / exp.sum(axis=1, keepdims=True)
        return self.proba

    def backward(self, Y):
        error = (self.proba - Y) / len(Y)
        inner = (error @ self.W2.T) * self.slope(self.hidden)
        return self.X.T @ inner, self.hidden.T @ error

    def step(self, gradients, lr):
        for weights, gradient in zip((self.W1, self.W2), gradients, strict=True):
            weights -= lr * gradient


def network_accuracy(X, y, lr=0.1, n_hidden=16, activation="relu", epochs=20, seed=0):
    """Accuracy of a small network on held-out rows, and its loss after each epoch."""
    rng = np.random.default_rng(seed)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, stratify=y)
    Y = np.eye(y.max() + 1)[y_train]
    network = Network(X.shape[1], n_hidden, Y.shape[1], activation, rng)
    losses = []
    for _ in range(epochs):
        order = rng.permutation(len(Y))
        for rows in np.array_split(order, max(1, len(Y) // 64)):
            network.forward(X_train[rows])
            network.step(network.backward(Y[rows]), lr)
        losses.append(float(log_loss(y_train, network.forward(X_train))))
    accuracy = np.mean(network.forward(X_test).argmax(axis=1) == y_test)
    return accuracy, {"loss by epoch": losses}


if __name__ == "__main__":
    loss, extra = boosted_log_loss({"learning_rate": 0.1}, *load_breast_cancer(return_X_y=True))
    print(f"gradient boosting: log-loss {loss:.4f}, stopped after {extra['iterations']} iterations")
    accuracy, extra = network_accuracy(*load_digits(return_X_y=True), lr=1.0)
    print(
        f"a network in numpy: accuracy {accuracy:.4f}, last loss {extra['loss by epoch'][-1]:.4f}"
    )
