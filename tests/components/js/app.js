// The routes that tests/components.rs asks of a component of every language, here with what a service worker has: a fetch
// event, Request, Response and streams. Trailers are not part of that; raw.js has them.
import { getEnvironment } from 'wasi:cli/environment@0.2.10';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  const number = (name) => Number(url.searchParams.get(name) ?? 0);
  switch (url.pathname) {
    case '/':
      return text('hello from JavaScript\n');
    case '/echo':
      return echo(request);
    case '/stream':
      return new Response(lines(number('n'), number('ms')), { headers: { 'content-type': 'text/plain' } });
    case '/wait':
      await sleep(number('ms'));
      return text('waited\n');
    case '/json':
      return json(request);
    case '/env':
      return text(new Map(getEnvironment()).get('GREETING') ?? '');
    case '/log':
      console.log('to standard output');
      console.error('to standard error');
      return text('logged\n');
    case '/crash':
      throw new Error('asked to crash');
    case '/big':
      return new Response(big(number('bytes')), { headers: { 'content-type': 'application/octet-stream' } });
    case '/spin':
      for (;;);
    case '/hoard':
      return hoard();
    default:
      return new Response(null, { status: 404 });
  }
}

const text = (body) => new Response(body, { headers: { 'content-type': 'text/plain' } });

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The body goes through as it comes.
function echo(request) {
  const type = request.headers.get('content-type');
  return new Response(request.body, { headers: type === null ? {} : { 'content-type': type } });
}

function lines(n, ms) {
  const encoder = new TextEncoder();
  let line = 0;
  return new ReadableStream({
    async pull(controller) {
      if (line === n) {
        controller.close();
        return;
      }
      await sleep(ms);
      line += 1;
      controller.enqueue(encoder.encode(`line ${line}\n`));
    },
  });
}

async function json(request) {
  const body = await request.json().catch(() => null);
  if (!Array.isArray(body?.numbers)) return new Response('no numbers\n', { status: 400 });
  const sum = body.numbers.reduce((sum, number) => sum + number, 0);
  return new Response(JSON.stringify({ sum, count: body.numbers.length }), {
    headers: { 'content-type': 'application/json' },
  });
}

// Byte i is i % 256. A piece is made when it is asked for.
function big(bytes) {
  const pattern = Uint8Array.from({ length: 64 << 10 }, (_, i) => i);
  let left = bytes;
  return new ReadableStream({
    pull(controller) {
      if (left === 0) {
        controller.close();
        return;
      }
      const piece = pattern.slice(0, left);
      left -= piece.length;
      controller.enqueue(piece);
    },
  });
}

function hoard() {
  const all = [];
  for (;;) all.push(new Uint8Array(1 << 20).fill(1));
}
