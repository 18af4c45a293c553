/** The binary frames of `castellan.tty.v1` (protocol.md 5): bytes to values and back, nothing else. */

export const MAX_DATA = 32 * 1024;

const DATA = 0x00;
const ACK = 0x01;
const RESIZE = 0x02;
const CONTROL = 0x03;
const RESIZED = 0x04;
const SCREEN = 0x06;

export type Control = { type: string; [key: string]: unknown };

export type Frame =
  | { type: 'data'; offset: number; bytes: Uint8Array }
  | { type: 'ack'; offset: number }
  | { type: 'resize'; cols: number; rows: number }
  | { type: 'control'; control: Control }
  | { type: 'resized'; offset: number; cols: number; rows: number }
  | { type: 'screen'; offset: number; last: boolean; bytes: Uint8Array };

/** A message that is no frame of this protocol. */
export class FrameError extends Error {}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

function frame(type: number, length: number): [Uint8Array<ArrayBuffer>, DataView] {
  const bytes = new Uint8Array(1 + length);
  bytes[0] = type;
  return [bytes, new DataView(bytes.buffer, 1)];
}

function sized(type: number, view: DataView, cols: number, rows: number, at: number): void {
  if (!validSize(cols) || !validSize(rows)) throw new FrameError(`frame ${type}: size ${cols}x${rows} is out of range`);
  view.setUint16(at, cols);
  view.setUint16(at + 2, rows);
}

export function encode(value: Frame): Uint8Array<ArrayBuffer> {
  switch (value.type) {
    case 'data': {
      if (value.bytes.length > MAX_DATA) throw new FrameError(`data of ${value.bytes.length} bytes is too long`);
      const [bytes, view] = frame(DATA, 8 + value.bytes.length);
      view.setBigUint64(0, BigInt(value.offset));
      bytes.set(value.bytes, 9);
      return bytes;
    }
    case 'ack': {
      const [bytes, view] = frame(ACK, 8);
      view.setBigUint64(0, BigInt(value.offset));
      return bytes;
    }
    case 'resize': {
      const [bytes, view] = frame(RESIZE, 4);
      sized(RESIZE, view, value.cols, value.rows, 0);
      return bytes;
    }
    case 'control': {
      const json = encoder.encode(JSON.stringify(value.control));
      const [bytes] = frame(CONTROL, json.length);
      bytes.set(json, 1);
      return bytes;
    }
    case 'resized': {
      const [bytes, view] = frame(RESIZED, 12);
      view.setBigUint64(0, BigInt(value.offset));
      sized(RESIZED, view, value.cols, value.rows, 8);
      return bytes;
    }
    case 'screen': {
      const [bytes, view] = frame(SCREEN, 9 + value.bytes.length);
      view.setBigUint64(0, BigInt(value.offset));
      view.setUint8(8, value.last ? 1 : 0);
      bytes.set(value.bytes, 10);
      return bytes;
    }
  }
}

export function decode(message: ArrayBuffer): Frame {
  if (message.byteLength === 0) throw new FrameError('empty message');
  const bytes = new Uint8Array(message);
  const view = new DataView(message, 1);
  switch (bytes[0]) {
    case DATA:
      atLeast(view, 8, 'data');
      return { type: 'data', offset: offset(view), bytes: bytes.subarray(9) };
    case ACK:
      exactly(view, 8, 'ack');
      return { type: 'ack', offset: offset(view) };
    case RESIZE:
      exactly(view, 4, 'resize');
      return { type: 'resize', ...size(view, 0) };
    case CONTROL:
      return { type: 'control', control: control(bytes.subarray(1)) };
    case RESIZED:
      exactly(view, 12, 'resized');
      return { type: 'resized', offset: offset(view), ...size(view, 8) };
    case SCREEN:
      atLeast(view, 9, 'screen');
      return { type: 'screen', offset: offset(view), last: view.getUint8(8) === 1, bytes: bytes.subarray(10) };
    default:
      throw new FrameError(`unknown frame type ${bytes[0]}`);
  }
}

export function validSize(n: number): boolean {
  return Number.isInteger(n) && n >= 1 && n <= 1000;
}

function atLeast(view: DataView, length: number, name: string): void {
  if (view.byteLength < length) throw new FrameError(`${name} frame is too short`);
}

function exactly(view: DataView, length: number, name: string): void {
  if (view.byteLength !== length) throw new FrameError(`${name} frame has ${view.byteLength} bytes instead of ${length}`);
}

function offset(view: DataView): number {
  const value = view.getBigUint64(0);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FrameError('offset is beyond what this page can count');
  return Number(value);
}

function size(view: DataView, at: number): { cols: number; rows: number } {
  const [cols, rows] = [view.getUint16(at), view.getUint16(at + 2)];
  if (!validSize(cols) || !validSize(rows)) throw new FrameError(`size ${cols}x${rows} is out of range`);
  return { cols, rows };
}

function control(json: Uint8Array): Control {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(json));
  } catch {
    throw new FrameError('control message is not JSON');
  }
  if (typeof value !== 'object' || value === null || typeof (value as Control).type !== 'string') {
    throw new FrameError('control message has no type');
  }
  return value as Control;
}
