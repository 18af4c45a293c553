/** The browser's WebSocket as a connection's transport. */
import type { Clock, Connection, Transport } from './connection';

export const SUBPROTOCOL = 'castellan.tty.v1';
/** Longest a socket may take to open, in milliseconds: a dead network says nothing by itself. */
const OPEN_MS = 10_000;

export const browserClock: Clock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/**
 * Opens the socket for a ticket. The ticket travels as a subprotocol, so that it is in no URL and no log. The answer
 * gives up on a socket that is not open yet, without a word to the connection.
 */
export function dial(connection: Connection, url: string, token: string): () => void {
  const socket = new WebSocket(url, [SUBPROTOCOL, `ticket.${token}`]);
  socket.binaryType = 'arraybuffer';
  const transport: Transport = {
    send: (frame) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(frame);
    },
    close: (code, reason) => socket.close(code === 1000 || code >= 3000 ? code : 1000, reason),
  };
  let opened = false;
  const overdue = setTimeout(() => socket.close(), OPEN_MS);
  socket.onopen = () => {
    clearTimeout(overdue);
    opened = true;
    connection.attach(transport);
  };
  socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => connection.message(event.data, transport);
  socket.onclose = (event) => {
    clearTimeout(overdue);
    connection.closed(event.code, event.reason, opened ? transport : null);
  };
  return () => {
    if (opened) return;
    clearTimeout(overdue);
    socket.onopen = socket.onclose = null;
    socket.close();
  };
}
