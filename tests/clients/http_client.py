"""Drives a server through Python's http.client: argv is HOST PORT. Prints "ok" when everything was as it should be."""

import http.client
import sys


def chunks(blocks):
    for block in blocks:
        yield block


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    connection = http.client.HTTPConnection(host, port, timeout=30)
    for _ in range(200):
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, response.status
        assert b"Hello World" in body, body
        assert not response.will_close, "the connection is not kept"

    blob = bytes(range(256)) * 1024
    connection.request("POST", "/", body=blob)
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.read() == blob, "a body with a length came back different"

    blocks = [b"a" * 10, b"b" * 5000, b"c" * 70000]
    connection.request("POST", "/", body=chunks(blocks), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert response.read() == b"".join(blocks), "a chunked body came back different"

    connection.request("HEAD", "/")
    response = connection.getresponse()
    assert response.status == 200 and response.read() == b"", response.status
    connection.close()
    print("ok")


if __name__ == "__main__":
    main()
