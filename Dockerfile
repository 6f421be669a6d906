# syntax=docker/dockerfile:1
# Each can be replaced, for registries of one's own. BASE needs glibc and libgcc, and nothing else: no
# command runs in it, so `gcr.io/distroless/cc-debian12` will do.
ARG BUILD_BASE=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim
# Where /out is taken from: the stage below, or an image that has it, built before.
ARG OUT=build

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
 && mkdir -p /out/plugins /out/certs /out/data /out/config \
 && cp target/release/sequin /out/ \
 && cp plugins/*.wasm /out/plugins/ \
 && cp /etc/ssl/certs/ca-certificates.crt /out/certs/

FROM ${OUT} AS out

FROM ${BASE} AS run
# What changes least comes first. The certificates are for destinations and databases over TLS.
COPY --from=out /out/certs/ /etc/ssl/certs/
COPY --from=out /out/config/ /etc/sequin/
COPY --from=out --chown=10001:10001 /out/data/ /var/lib/sequin/
COPY --from=out /out/plugins/ /usr/share/sequin/plugins/
COPY --from=out /out/sequin /usr/local/bin/sequin
USER 10001:10001
WORKDIR /var/lib/sequin
# CONFIG_FILE_YAML, the configuration itself in base64, wins over CONFIG_FILE_PATH.
ENV CONFIG_FILE_PATH=/etc/sequin/sequin.yaml \
    SEQUIN_DATA_DIR=/var/lib/sequin \
    SEQUIN_PLUGIN_DIR=/usr/share/sequin/plugins \
    SEQUIN_LOG_FORMAT=json
VOLUME /var/lib/sequin
EXPOSE 7376 8376
# That the process answers, and no more: see /health. An orchestrator's own check takes its place.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["sequin", "health"]
ENTRYPOINT ["sequin"]
CMD ["serve"]
