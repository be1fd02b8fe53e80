# The program for CPUs:
#
#   docker build -t basislab .
#   docker run --rm -v "$PWD:/data" basislab run adam-vs-sgd
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p basislab --no-default-features --features flex,ndarray

FROM debian:bookworm-slim
COPY --from=build /src/target/release/basislab /usr/local/bin/basislab
WORKDIR /data
ENTRYPOINT ["basislab"]
