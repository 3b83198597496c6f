"""The peer: the same job as people write it, FastAPI + OpenCV + Redis.

    REDIS_PORT=6379 uvicorn --workers 2 app:app
"""

import hashlib
import os

import cv2
import numpy
import redis
from fastapi import FastAPI, Request, Response

cv2.setNumThreads(1)  # two workers on two cores: threads would only get in the way
app = FastAPI()
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]))
LIMIT = int(os.environ.get("MAX_FEATURES", "0"))
sift = cv2.SIFT_create(nfeatures=LIMIT,
                       contrastThreshold=float(os.environ.get("CONTRAST", "0.04")))


def extract(body):
    picture = cv2.imdecode(numpy.frombuffer(body, numpy.uint8), cv2.IMREAD_GRAYSCALE)
    quiet = cv2.fastNlMeansDenoising(picture, h=10, templateWindowSize=7, searchWindowSize=21)
    found, descriptors = sift.detectAndCompute(quiet, None)
    points = numpy.array([(*k.pt, k.size / 2, k.angle, k.response) for k in found], "<f4")
    return points.tobytes() + descriptors.astype(numpy.uint8).tobytes()


@app.post("/v1/features")
async def features(request: Request):
    body = await request.body()
    key = "features:" + hashlib.sha256(body).hexdigest()
    result = cache.get(key)
    if result is None:
        result = extract(body)
        cache.set(key, result, ex=3600)
    return Response(result, media_type="application/octet-stream")
