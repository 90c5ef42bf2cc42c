// The routes of app.js once more, with the raw bindings of wasi:http: they have trailers, and an instance of this
// component serves many requests, where one with a fetch event has only the one event.
import { getEnvironment } from 'wasi:cli/environment@0.2.10';
import { subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.10';
import { Fields, IncomingBody, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

const encode = (text) => new TextEncoder().encode(text);

// `dispose` lets go of a resource now. Children go before their parents, or the component traps: a stream, then its body.
const dispose = (resource) => resource[Symbol.dispose]();

export const incomingHandler = {
  handle(request, out) {
    const [path, query] = (request.pathWithQuery() ?? '/').split('?');
    const number = (name) => Number(new URLSearchParams(query).get(name) ?? 0);
    switch (path) {
      case '/':
        return text(out, 'hello from JavaScript\n');
      case '/echo':
        return echo(request, out);
      case '/stream':
        return lines(out, number('n'), number('ms'));
      case '/wait':
        sleep(number('ms'));
        return text(out, 'waited\n');
      case '/trailers':
        return send(out, 200, { 'content-type': 'text/plain', trailer: 'x-bytes' }, ['body\n'], { 'x-bytes': '5' });
      case '/json':
        return json(request, out);
      case '/env':
        return text(out, new Map(getEnvironment()).get('GREETING') ?? '');
      case '/log':
        console.log('to standard output');
        console.error('to standard error');
        return text(out, 'logged\n');
      case '/crash':
        throw new Error('asked to crash');
      case '/big':
        return send(out, 200, { 'content-type': 'application/octet-stream' }, big(number('bytes')));
      case '/spin':
        for (;;);
      case '/hoard':
        return hoard();
      default:
        return send(out, 404, {}, []);
    }
  },
};

const fields = (entries) => Fields.fromList(Object.entries(entries).map(([name, value]) => [name, encode(value)]));

// Sends the head, then each piece when there is room for it, then the end.
function send(out, status, headers, pieces, trailers) {
  const [body, stream] = start(out, status, headers);
  for (const piece of pieces) {
    const bytes = typeof piece === 'string' ? encode(piece) : piece;
    for (let at = 0; at < bytes.length; at += 4096) stream.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
  }
  dispose(stream);
  OutgoingBody.finish(body, trailers && fields(trailers));
}

function start(out, status, headers) {
  const response = new OutgoingResponse(fields(headers));
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(out, { tag: 'ok', val: response });
  return [body, body.write()];
}

const text = (out, body, status = 200) => send(out, status, { 'content-type': 'text/plain' }, [body]);

function sleep(ms) {
  const timer = subscribeDuration(BigInt(ms) * 1_000_000n);
  timer.block();
  dispose(timer);
}

// `use` has the stream of the request's body.
function withBody(request, use) {
  const body = request.consume();
  const stream = body.stream();
  const result = use(stream);
  dispose(stream);
  dispose(body);
  return result;
}

// Calls until the stream says that it has ended; anything else is thrown on.
function untilEnd(step) {
  try {
    for (;;) step();
  } catch (error) {
    if (error.payload?.tag !== 'closed') throw error;
  }
}

// The body goes through as it comes, and never through the memory of this component.
function echo(request, out) {
  const type = request.headers().get('content-type');
  const [body, to] = start(out, 200, type.length ? { 'content-type': new TextDecoder().decode(type[0]) } : {});
  withBody(request, (from) => untilEnd(() => to.blockingSplice(from, 65536n)));
  dispose(to);
  OutgoingBody.finish(body, undefined);
}

function lines(out, n, ms) {
  send(out, 200, { 'content-type': 'text/plain' }, (function* () {
    for (let line = 1; line <= n; line += 1) {
      sleep(ms);
      yield `line ${line}\n`;
    }
  })());
}

function json(request, out) {
  let body = '';
  const decoder = new TextDecoder();
  withBody(request, (stream) =>
    untilEnd(() => {
      body += decoder.decode(stream.blockingRead(65536n), { stream: true });
    }),
  );
  let numbers;
  try {
    ({ numbers } = JSON.parse(body));
  } catch {
    return text(out, 'no numbers\n', 400);
  }
  const sum = numbers.reduce((sum, number) => sum + number, 0);
  return send(out, 200, { 'content-type': 'application/json' }, [JSON.stringify({ sum, count: numbers.length })]);
}

// Byte i is i % 256. A piece is made when the one before it has been taken.
function* big(bytes) {
  const pattern = Uint8Array.from({ length: 64 << 10 }, (_, i) => i);
  for (let left = bytes; left > 0; left -= pattern.length) yield pattern.subarray(0, left);
}

function hoard() {
  const all = [];
  for (;;) all.push(new Uint8Array(1 << 20).fill(1));
}
