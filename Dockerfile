# SPDX-License-Identifier: Apache-2.0
#
#   docker build -t weir .
#   docker run --rm -p 127.0.0.1:9000:9000 -e WEIR_TOKEN=$(openssl rand -hex 16) -v weir-data:/var/lib/weir weir

FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
# The packages change less often than the sources: a layer of their own.
COPY Makefile ./
COPY scripts/install-deps scripts/
RUN make deps
COPY . .
RUN make clean && make all install PREFIX=/usr DESTDIR=/out

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl python3-minimal tini tzdata \
      libevent-2.1-7 libevent-pthreads-2.1-7 librabbitmq4 libpq5 libmsgpackc2 libsqlite3-0 libjansson4 libcurl4 libssl3 \
      libarchive13 libhttp-parser2.9 libinih1 librdkafka1 libglib2.0-0 libncursesw6 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 9000 --home-dir /var/lib/weir --create-home --shell /usr/sbin/nologin weir
COPY --from=build /out/usr /usr
USER weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
EXPOSE 9000
# Outside of loopback the server wants a token: set WEIR_TOKEN. Every other option has an environment variable as well.
ENV WEIR_LISTEN=0.0.0.0:9000 WEIR_DATA=/var/lib/weir
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD curl -fsS http://127.0.0.1:9000/healthz || exit 1
# An instance whose parent is gone is reaped by tini.
ENTRYPOINT ["/usr/bin/tini", "--", "weir"]
CMD ["serve"]
