/** The browser's WebSocket as a connection's transport. */
import type { Clock, Connection } from './connection';

export const SUBPROTOCOL = 'castellan.tty.v1';

export const browserClock: Clock = {
  now: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Opens the socket for a ticket. The ticket travels as a subprotocol, so that it is in no URL and no log. */
export function dial(connection: Connection, url: string, token: string): void {
  const socket = new WebSocket(url, [SUBPROTOCOL, `ticket.${token}`]);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () =>
    connection.attach({
      send: (frame) => {
        if (socket.readyState === WebSocket.OPEN) socket.send(frame);
      },
      close: (code, reason) => socket.close(code === 1000 || code >= 3000 ? code : 1000, reason),
    });
  socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => connection.message(event.data);
  socket.onclose = (event) => connection.closed(event.code, event.reason);
}
