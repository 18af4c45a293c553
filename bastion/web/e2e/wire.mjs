// The terminal socket without a browser: HTTP with a login's cookie, and the frames of `castellan.tty.v1`.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';

const DATA = 0x00;
const ACK = 0x01;
const RESIZE = 0x02;
const CONTROL = 0x03;
const RESIZED = 0x04;
const SCREEN = 0x06;
const ACK_BYTES = 32 * 1024;
const ACK_MS = 50;
const PATIENCE_MS = 20_000;

/** More than any session has printed: whoever claims to have it gets a screen. */
export const BEYOND = 2 ** 40;

/** A person's login: what else is asked is asked with its cookie. */
export class Login {
  #url;
  #cookie;

  constructor(url, cookie) {
    this.#url = url;
    this.#cookie = cookie;
  }

  static async as(url, username, password) {
    const answer = await fetch(`${url}/api/v1/login`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Origin: url },
      body: JSON.stringify({ username, password }),
    });
    assert.equal(answer.status, 200, await answer.text());
    return new Login(url, answer.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; '));
  }

  async asks(path, method = 'GET') {
    const answer = await fetch(`${this.#url}/api/v1${path}`, { method, headers: { Cookie: this.#cookie, Origin: this.#url } });
    const text = await answer.text();
    if (answer.status === 429) {
      // More tickets than a person asks for.
      await pause(Number(answer.headers.get('Retry-After')) * 1000);
      return this.asks(path, method);
    }
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  }

  /** What a GET answers with, byte for byte; no other answer than 200 will do. */
  async takes(path) {
    const answer = await fetch(`${this.#url}${path}`, { headers: this.headers });
    const bytes = Buffer.from(await answer.arrayBuffer());
    assert.equal(answer.status, 200, `${path}: ${answer.status} ${bytes.subarray(0, 500)}`);
    return { bytes, name: answer.headers.get('Content-Disposition')?.match(/filename="(.*)"/)?.[1] };
  }

  /** How many bytes a GET answers with, none of them kept. */
  async fetches(path) {
    const answer = await fetch(`${this.#url}${path}`, { headers: this.headers });
    assert.equal(answer.status, 200, path);
    let bytes = 0;
    for await (const part of answer.body) bytes += part.length;
    return bytes;
  }

  get headers() {
    return { Cookie: this.#cookie };
  }

  /** Opens the socket of a ticket, which says hello and hands on the frames it hears. */
  dial({ ws_url, token }, have, heard) {
    const socket = new WebSocket(ws_url, ['castellan.tty.v1', `ticket.${token}`], { origin: this.#url, headers: { Cookie: this.#cookie } });
    return new Socket(socket, have, heard);
  }
}

/** A framed socket. It answers pings, and acknowledges what its owner says is parsed. */
export class Socket {
  #socket;
  #parsed = 0;
  #acknowledged = 0;
  #timer;

  constructor(socket, have, heard) {
    this.#socket = socket;
    socket.binaryType = 'nodebuffer';
    socket.on('open', () => this.#control({ type: 'hello', have }));
    // Resolves with what `ready` says; rejects if the socket closes before.
    this.ready = within('ready', (resolve, reject) => {
      socket.on('message', (message) => {
        const frame = decode(message);
        if (frame.control?.type === 'ping') this.#control({ type: 'pong' });
        else if (frame.control?.type === 'ready') resolve(frame.control);
        heard(frame);
      });
      socket.on('close', (code, reason) => reject(new Error(`closed before ready: ${code} ${reason}`)));
      socket.on('error', reject);
    });
    this.ready.catch(() => {});
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        clearTimeout(this.#timer);
        resolve({ code, reason: String(reason) });
      });
    });
  }

  type(offset, bytes) {
    this.#send(DATA, u64(offset), bytes);
  }

  resize(cols, rows) {
    this.#send(RESIZE, u16(cols), u16(rows));
  }

  /** Everything up to an offset is parsed: told every 32 KiB or 50 ms, whichever is first. */
  parsed(upTo) {
    this.#parsed = Math.max(this.#parsed, upTo);
    if (this.#parsed - this.#acknowledged >= ACK_BYTES) this.#acknowledge();
    else this.#timer ??= setTimeout(() => this.#acknowledge(), ACK_MS);
  }

  /** Closes; answers with the code and reason of the close. */
  close() {
    this.#socket.close(1000);
    return this.closed;
  }

  #acknowledge() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#acknowledged = this.#parsed;
    this.#send(ACK, u64(this.#parsed));
  }

  #control(control) {
    this.#send(CONTROL, Buffer.from(JSON.stringify(control)));
  }

  #send(type, ...parts) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(Buffer.concat([Buffer.of(type), ...parts]));
  }
}

function decode(message) {
  const body = message.subarray(1);
  const offset = () => Number(body.readBigUInt64BE(0));
  switch (message[0]) {
    case DATA:
      return { type: 'data', offset: offset(), bytes: body.subarray(8) };
    case ACK:
      return { type: 'ack', offset: offset() };
    case CONTROL:
      return { type: 'control', control: JSON.parse(body) };
    case RESIZED:
      return { type: 'resized', offset: offset(), cols: body.readUInt16BE(8), rows: body.readUInt16BE(10) };
    case SCREEN:
      return { type: 'screen', offset: offset(), last: body[8] === 1, bytes: body.subarray(9) };
    default:
      return assert.fail(`a frame of type ${message[0]} from the bastion`);
  }
}

function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function u16(value) {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** A promise that does not wait for ever. */
export function within(what, begin) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
    const then = (settle) => (value) => {
      clearTimeout(timer);
      settle(value);
    };
    begin(then(resolve), then(reject));
  });
}
