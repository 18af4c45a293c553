/** Text that others wrote, made fit to be shown or typed: terminal titles, pastes, links. */

// Control characters, zero-width and bidirectional marks: invisible, and able to make text read as something else.
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A terminal's title: at most 80 characters, nothing invisible. */
export function cleanTitle(title: string): string {
  const clean = title.replace(INVISIBLE, '').trim();
  const characters = [...clean];
  return characters.length > 80 ? `${characters.slice(0, 79).join('')}…` : clean;
}

/**
 * A paste without what could escape it: the bracketed paste markers, then every control character but tab and line
 * ends. A clipboard with ESC[201~ would otherwise leave the brackets and run what follows.
 */
export function cleanPaste(text: string): string {
  return text
    .replace(/\u001b\[20[01]~/g, '')
    .replace(/\u009b20[01]~/g, '')
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, '');
}

/** Whether a paste must be confirmed: a line end may run a command. */
export function hasLineEnd(text: string): boolean {
  return /[\r\n]/.test(text);
}

/** The address in full when it is an http(s) link, else null. Names in other scripts come out as punycode. */
export function webLink(text: string): string | null {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null;
  }
}

/** A path of these pages to go to after login; anything else becomes the first page. */
export function safePath(path: string | null): string {
  return path && /^\/(?![/\\])/.test(path) && !path.startsWith('/login') ? path : '/hosts';
}
