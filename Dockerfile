# The gateway alone: no embedded PostgreSQL, no tools, no root. Its commands are falgate's: serve, migrate, audit, …

FROM python:3.13-slim AS packages
COPY requirements.txt .
RUN python -m venv /packages \
 && /packages/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt \
 && /packages/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home falgate && install -d -m 700 -o falgate /outputs
COPY --from=packages /packages /packages
WORKDIR /falgate
COPY app app
COPY migrations migrations
RUN /packages/bin/python -m compileall -q app migrations
ENV PATH=/packages/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=8000
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "app.cli"]
CMD ["serve"]
