# syntax=docker/dockerfile:1
# Both can be replaced, for registries of one's own.
ARG BUILD_BASE=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY . .
# Dependencies are kept between builds in the caches, so a change of ours builds only what it touches.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    --mount=type=cache,target=/src/plugins/target \
    cargo x plugins \
 && cargo build --release --locked -p server \
 && mkdir -p /out/plugins \
 && cp target/release/sequin /out/ \
 && cp plugins/*.wasm /out/plugins/

FROM ${BASE} AS run
# ca-certificates: destinations and databases over TLS. curl: the health check.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/sequin --create-home sequin
COPY --from=build /out/sequin /usr/local/bin/sequin
COPY --from=build /out/plugins /usr/share/sequin/plugins
USER 10001
WORKDIR /var/lib/sequin
ENV SEQUIN_DATA_DIR=/var/lib/sequin \
    SEQUIN_PLUGIN_DIR=/usr/share/sequin/plugins \
    SEQUIN_LOG_FORMAT=json
VOLUME /var/lib/sequin
EXPOSE 7376 8376
# That the process answers, and no more: see /health. An orchestrator's own check takes its place.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD curl --fail --silent --show-error "http://127.0.0.1:${SERVER_PORT:-7376}/health" || exit 1
ENTRYPOINT ["sequin"]
CMD ["serve"]
