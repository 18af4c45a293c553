import { describe, expect, it } from 'vitest';
import { cleanPaste, cleanTitle, hasLineEnd, safePath, webLink } from './text';

describe('a title from the host', () => {
  it('loses everything invisible', () => {
    expect(cleanTitle('a\u001b]0;b\u0007c\u202Ed\u200Be\u0085')).toBe('a]0;bcde');
  });
  it('is cut at 80 characters, not in the middle of one', () => {
    const cut = cleanTitle('🦀'.repeat(100));
    expect([...cut]).toHaveLength(80);
    expect(cut.endsWith('🦀…')).toBe(true);
  });
});

describe('a paste', () => {
  it('cannot end bracketed paste', () => {
    expect(cleanPaste('safe\u001b[201~\rrm -rf /')).toBe('safe\rrm -rf /');
    expect(cleanPaste('\u001b[20\u001b[201~1~x')).not.toContain('\u001b');
    expect(cleanPaste('\u009b201~x')).toBe('x');
  });
  it('keeps tabs, line ends and every script', () => {
    expect(cleanPaste('a\tb\r\n中文 é 🦀')).toBe('a\tb\r\n中文 é 🦀');
  });
  it('loses control characters', () => {
    expect(cleanPaste('a\u0003b\u0000c\u007fd\u0090')).toBe('abcd');
  });
  it('is confirmed when a line end may run it', () => {
    expect(hasLineEnd('one line')).toBe(false);
    expect(hasLineEnd('ls\n')).toBe(true);
    expect(hasLineEnd('a\rb')).toBe(true);
  });
});

describe('a link from the host', () => {
  it('is http or https, or nothing', () => {
    expect(webLink('https://example.org/a?b')).toBe('https://example.org/a?b');
    for (const bad of ['javascript:alert(1)', 'file:///etc/passwd', 'data:text/html,x', 'ssh://host', 'nonsense']) {
      expect(webLink(bad)).toBeNull();
    }
  });
  it('shows a look-alike host for what it is', () => {
    expect(webLink('https://аpple.com/')).toContain('xn--');
  });
});

describe('the way back after login', () => {
  it('stays on these pages', () => {
    expect(safePath('/sessions?state=live')).toBe('/sessions?state=live');
    for (const bad of [null, '', '//evil.example', '/\\evil.example', 'https://evil.example', '/login?next=/x']) {
      expect(safePath(bad)).toBe('/hosts');
    }
  });
});
