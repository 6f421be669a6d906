# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    --mount=type=cache,target=/src/plugins/target \
    cargo x plugins \
 && cargo build --release --locked -p server \
 && mkdir -p /out/plugins \
 && cp target/release/sequin /out/ \
 && cp plugins/*.wasm /out/plugins/

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/sequin --create-home sequin
COPY --from=build /out/sequin /usr/local/bin/sequin
COPY --from=build /out/plugins /usr/share/sequin/plugins
USER 10001
ENV SEQUIN_DATA_DIR=/var/lib/sequin \
    SEQUIN_LOG_FORMAT=json
VOLUME /var/lib/sequin
EXPOSE 7376 8376
ENTRYPOINT ["sequin"]
CMD ["serve"]
