"""Corruptions of images with five severities each: those of ImageNet-C and of MNIST-C."""
