# glip on a CPU. Build and run, with the images of the working folder:
#
#     docker build -t glip .
#     docker run --rm -v "$PWD:/work" glip label photos --prompt 'person . hard hat .'
#
# Downloaded checkpoints are kept if the cache is a volume: -v glip-cache:/cache
FROM python:3.12-slim

# PyTorch's own index has wheels without CUDA, which are smaller by gigabytes.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY glip ./glip
COPY glip_cli ./glip_cli
RUN pip install --no-cache-dir '.[captions]'

RUN useradd --create-home glip && mkdir -p /work /cache && chown glip /work /cache
USER glip
WORKDIR /work
ENV GLIP_HOME=/cache
ENTRYPOINT ["glip"]
CMD ["--help"]
