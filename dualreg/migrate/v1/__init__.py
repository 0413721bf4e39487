"""V1 images moving in: chains of images, each with one layer, which tags become manifests of."""
