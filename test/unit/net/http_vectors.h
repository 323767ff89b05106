/* SPDX-License-Identifier: Apache-2.0 */
/* http_vectors — the shapes that smuggle requests past one of two readers, each followed by a second request: what counts is how many messages
 * are seen.  Used on the parser alone and on a server. */
#ifndef DAVIT_TEST_HTTP_VECTORS_H
#define DAVIT_TEST_HTTP_VECTORS_H

#include <stddef.h>

#define H       "Host: a\r\n"
#define POST    "POST /1 HTTP/1.1\r\n"
#define NEXT    "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define V(name, ok, text)                                                                                                        \
    {                                                                                                                            \
        name, text NEXT, sizeof(text NEXT) - 1, ok                                                                               \
    }

struct http_vector {
    const char *name;
    const char *bytes;
    size_t n;
    int messages; /* complete ones; < 0: that many (minus one), then refused */
};

/* REFUSED: not even the first message is complete. ONE_THEN: the first is, what follows is refused. */
enum { REFUSED = -1, ONE_THEN = -2, BOTH = 2 };

static const struct http_vector http_vectors[] = {
    V("control: content-length", BOTH, POST H "Content-Length: 5\r\n\r\nhello"),
    V("control: chunked", BOTH, POST H CHUNKED "\r\n5\r\nhello\r\n0\r\n\r\n"),
    V("length, then chunked", REFUSED, POST H "Content-Length: 5\r\n" CHUNKED "\r\n0\r\n\r\n"),
    V("chunked, then length", REFUSED, POST H CHUNKED "Content-Length: 5\r\n\r\n0\r\n\r\n"),
    V("two equal lengths", REFUSED, POST H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    V("two different lengths", REFUSED, POST H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    V("length +5", REFUSED, POST H "Content-Length: +5\r\n\r\nhello"),
    V("length with trailing space", BOTH, POST H "Content-Length: 5 \r\n\r\nhello"),
    V("length 5 6", REFUSED, POST H "Content-Length: 5 6\r\n\r\nhello"),
    V("length 5,5", REFUSED, POST H "Content-Length: 5,5\r\n\r\nhello"),
    V("length 0x5", REFUSED, POST H "Content-Length: 0x5\r\n\r\nhello"),
    V("length -1", REFUSED, POST H "Content-Length: -1\r\n\r\nhello"),
    V("length empty", REFUSED, POST H "Content-Length: \r\n\r\nhello"),
    V("length 2^64+5", REFUSED, POST H "Content-Length: 18446744073709551621\r\n\r\nhello"),
    V("space before length", REFUSED, POST H " Content-Length: 5\r\n\r\nhello"),
    V("space after length's name", REFUSED, POST H "Content-Length : 5\r\n\r\nhello"),
    V("space before transfer-encoding", REFUSED, POST H " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    V("space after transfer-encoding's name", REFUSED, POST H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    V("encoding xchunked", REFUSED, POST H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    V("encoding chunked, identity", REFUSED, POST H "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    V("encoding identity", REFUSED, POST H "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    V("encoding gzip", REFUSED, POST H "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    V("encoding after VT", REFUSED,
      POST H "Transfer-Encoding: \x0b"
             "chunked\r\n\r\n0\r\n\r\n"),
    V("encoding twice chunked", REFUSED, POST H CHUNKED CHUNKED "\r\n0\r\n\r\n"),
    V("encoding chunked, then false", REFUSED, POST H CHUNKED "Transfer-Encoding: false\r\n\r\n0\r\n\r\n"),
    V("encoding folded", REFUSED, POST H "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    V("chunked in 1.0", REFUSED, "POST /1 HTTP/1.0\r\n" H CHUNKED "\r\n0\r\n\r\n"),
    V("fold on another header", REFUSED, POST H "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    V("bare LF lines", REFUSED, "GET /1 HTTP/1.1\nHost: a\n\n"),
    V("CR in a value's middle", REFUSED, POST H "X: a\rb\r\nContent-Length: 0\r\n\r\n"),
    V("CR at a value's start", REFUSED, POST H "X: \rTransfer-Encoding: chunked\r\n\r\n"),
    V("double CR", REFUSED, POST H "X: a\r\r\nContent-Length: 0\r\n\r\n"),
    V("LF before the last CRLF", REFUSED, "GET /1 HTTP/1.1\r\n" H "\n\r\n"),
    V("NUL in a name", REFUSED, POST H "X\0Y: a\r\nContent-Length: 0\r\n\r\n"),
    V("NUL in a value", REFUSED, POST H "X: a\0b\r\nContent-Length: 0\r\n\r\n"),
    V("0x01 in a name", REFUSED, POST H "X\x01: a\r\nContent-Length: 0\r\n\r\n"),
    V("0x01 in a value", REFUSED, POST H "X: a\x01\r\nContent-Length: 0\r\n\r\n"),
    V("0x80 in a name", REFUSED, POST H "X\x80: a\r\nContent-Length: 0\r\n\r\n"),
    V("0x80 in a value is text", BOTH, POST H "X: a\x80\r\nContent-Length: 0\r\n\r\n"),
    V("empty name", REFUSED, POST H ": a\r\nContent-Length: 0\r\n\r\n"),
    V("chunk size 0x5", REFUSED, POST H CHUNKED "\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size after space", REFUSED, POST H CHUNKED "\r\n 5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size before space", REFUSED, POST H CHUNKED "\r\n5 \r\nhello\r\n0\r\n\r\n"),
    V("chunk size -5", REFUSED, POST H CHUNKED "\r\n-5\r\nhello\r\n0\r\n\r\n"),
    V("chunk size overflow", REFUSED, POST H CHUNKED "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    V("chunk size ended by LF", REFUSED, POST H CHUNKED "\r\n5\nhello\r\n0\r\n\r\n"),
    V("chunk data without CRLF", REFUSED, POST H CHUNKED "\r\n5\r\nhelloX0\r\n\r\n"),
    V("chunk extension", BOTH, POST H CHUNKED "\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension with LF", REFUSED, POST H CHUNKED "\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension with CR", REFUSED, POST H CHUNKED "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n"),
    V("trailer ended by LF", REFUSED, POST H CHUNKED "\r\n0\r\nX: y\n\r\n"),
    V("last chunk ended by LF", REFUSED, POST H CHUNKED "\r\n0\n\r\n"),
    V("two spaces in the request line", REFUSED, "GET  /1 HTTP/1.1\r\n" H "\r\n"),
    V("tab in the request line", REFUSED, "GET\t/1 HTTP/1.1\r\n" H "\r\n"),
    V("space before the request line", REFUSED, " GET /1 HTTP/1.1\r\n" H "\r\n"),
    V("space in the target", REFUSED, "GET /1 x HTTP/1.1\r\n" H "\r\n"),
    V("HTTP/1.9", REFUSED, "GET /1 HTTP/1.9\r\n" H "\r\n"),
    V("HTTP/3.0", REFUSED, "GET /1 HTTP/3.0\r\n" H "\r\n"),
    V("HTTP/0.9", REFUSED, "GET /1 HTTP/0.9\r\n" H "\r\n"),
    V("lower-case method", REFUSED, "get /1 HTTP/1.1\r\n" H "\r\n"),
    V("no Host", REFUSED, "GET /1 HTTP/1.1\r\n\r\n"),
    V("two Hosts", REFUSED, "GET /1 HTTP/1.1\r\n" H H "\r\n"),
    V("preface of HTTP/2", REFUSED, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    V("false, then chunked", REFUSED, POST H "Transfer-Encoding: false\r\n" CHUNKED "\r\n0\r\n\r\n"),
    V("length in the trailer", REFUSED, POST H CHUNKED "\r\n0\r\nContent-Length: 5\r\n\r\n"),
    V("preface of HTTP/2 as 1.0", REFUSED, "PRI * HTTP/1.0\r\n" H "\r\nSM\r\n\r\n"),
    V("chunk extension with two values", REFUSED, POST H CHUNKED "\r\n5;a=b=c\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension without a name", REFUSED, POST H CHUNKED "\r\n5;\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension without a second name", REFUSED, POST H CHUNKED "\r\n5;a;\r\nhello\r\n0\r\n\r\n"),
    V("chunk extension without a value", REFUSED, POST H CHUNKED "\r\n5;a=\r\nhello\r\n0\r\n\r\n"),
    V("bytes after Connection: close", ONE_THEN, "GET /1 HTTP/1.1\r\n" H "Connection: close\r\n\r\n"),
};

#endif
