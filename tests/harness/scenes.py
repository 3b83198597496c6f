"""Pictures that tests generate: seeded, so that the same call makes the same bytes."""

import cv2
import numpy


def scene(width=320, height=240, seed=1, noise=6.0):
    """A grey picture with shapes at several scales and Gaussian noise, uint8."""
    random = numpy.random.default_rng(seed)
    picture = numpy.full((height, width), 90, numpy.uint8)
    for _ in range(60):
        x, y = random.integers(0, width), random.integers(0, height)
        size = int(random.integers(4, max(5, min(width, height) // 6)))
        grey = int(random.integers(20, 236))
        if random.integers(2):
            cv2.circle(picture, (int(x), int(y)), size, grey, -1)
        else:
            cv2.rectangle(picture, (int(x), int(y)), (int(x) + size, int(y) + size), grey, -1)
    noisy = picture + random.normal(0, noise, picture.shape)
    return numpy.clip(noisy, 0, 255).astype(numpy.uint8)


def encoded(suffix=".jpg", **more):
    """The bytes of a scene as .jpg, .png, .webp or .pgm."""
    ok, data = cv2.imencode(suffix, scene(**more))
    assert ok
    return data.tobytes()
