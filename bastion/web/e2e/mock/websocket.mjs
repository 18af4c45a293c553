// A WebSocket server just big enough for the mock: binary messages, no fragments, no extensions.
import { createHash } from 'node:crypto';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export function upgrade(request, socket, protocol, { message, closed }) {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  let buffer = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    for (let frame = take(); frame; frame = take()) {
      if (frame.opcode === 2) message(frame.payload);
      else if (frame.opcode === 8) socket.end(header(8, frame.payload));
    }
  });
  socket.on('error', () => {});
  socket.on('close', closed);

  function take() {
    if (buffer.length < 6) return null;
    let length = buffer[1] & 0x7f;
    let at = 2;
    if (length === 126) {
      if (buffer.length < 8) return null;
      length = buffer.readUInt16BE(2);
      at = 4;
    }
    if (buffer.length < at + 4 + length) return null;
    const mask = buffer.subarray(at, at + 4);
    const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4]));
    const opcode = buffer[0] & 0x0f;
    buffer = buffer.subarray(at + 4 + length);
    return { opcode, payload };
  }

  function header(opcode, payload) {
    const size = payload.length;
    const head = size < 126 ? Buffer.from([0x80 | opcode, size]) : Buffer.from([0x80 | opcode, 126, size >> 8, size & 255]);
    return Buffer.concat([head, payload]);
  }

  return {
    send: (payload) => socket.writable && socket.write(header(2, payload)),
    close(code, reason) {
      const payload = Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]);
      if (socket.writable) socket.end(header(8, payload));
    },
  };
}
