/** Times, sizes and durations as people read them. */

const absolute = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const short = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const longer = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });

export function when(time: string): string {
  return absolute.format(new Date(time));
}

/** "3 Nov 2026, 09:12". */
export function long(time: string): string {
  return longer.format(new Date(time));
}

/** "just now", "5 min ago", "14 Nov, 09:12". Times ahead: "in 5 min". */
export function ago(time: string, now: number): string {
  const date = new Date(time);
  const seconds = Math.round((now - date.getTime()) / 1000);
  const distance = Math.abs(seconds);
  const said = (text: string) => (seconds < 0 ? `in ${text}` : `${text} ago`);
  if (distance < 5) return 'just now';
  if (distance < 60) return said(`${distance} s`);
  if (distance < 3600) return said(`${Math.round(distance / 60)} min`);
  if (distance < 86_400) return said(`${Math.round(distance / 3600)} h`);
  if (distance < 7 * 86_400) return said(`${Math.round(distance / 86_400)} d`);
  return new Date(now).getFullYear() === date.getFullYear() ? short.format(date) : longer.format(date);
}

/** Seconds as "42 s", "3 min 05 s", "1 h 12 min", "3 d 4 h". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** Seconds as a clock counts them down: "0:42", "12:05". */
export function countdown(seconds: number): string {
  const s = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

/** A moment of a recording, in seconds from its start, as "0:07", "12:05", "1:02:03". */
export function position(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, '0');
  const minutes = Math.floor(s / 60) % 60;
  return s < 3600 ? `${minutes}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(minutes)}:${two(s % 60)}`;
}

/** Bytes as "0 B", "1.5 KiB", "23 MiB". */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : Math.round(value * 10) / 10} ${units[unit]}`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}
