FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends npm python3-pip libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY build build
RUN build/deps
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=development
RUN make build VERSION="$VERSION"

# The native libraries need glibc: neither scratch nor alpine will do.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/vaglio --shell /usr/sbin/nologin vaglio \
    && install -d -m 700 -o vaglio -g vaglio /var/lib/vaglio
COPY --from=build /src/.deps/lib/libchdb.so /src/.deps/lib/lib_lightgbm.so /usr/local/lib/vaglio/
COPY --from=build /src/bin/vaglio /usr/local/bin/vaglio
USER vaglio
WORKDIR /var/lib/vaglio
VOLUME /var/lib/vaglio
EXPOSE 8080
ENTRYPOINT ["vaglio"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--data", "/var/lib/vaglio"]
