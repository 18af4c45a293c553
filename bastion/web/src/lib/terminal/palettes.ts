/** Colour schemes of the terminal. */
import type { ITheme } from '@xterm/xterm';

export interface Palette {
  name: string;
  dark: boolean;
  colours: ITheme;
}

const castellanDark: ITheme = {
  background: '#0e1113',
  foreground: '#dfe2e0',
  cursor: '#7cc7bd',
  cursorAccent: '#0e1113',
  selectionBackground: '#2f5457',
  black: '#22282c',
  red: '#ef7f78',
  green: '#7fcf90',
  yellow: '#e2bd72',
  blue: '#7fb2ea',
  magenta: '#c99be8',
  cyan: '#6fcbc4',
  white: '#cdd2d0',
  brightBlack: '#6d777d',
  brightRed: '#ff9d96',
  brightGreen: '#9be6aa',
  brightYellow: '#f4d596',
  brightBlue: '#a2ccff',
  brightMagenta: '#dfbbfa',
  brightCyan: '#93e4dd',
  brightWhite: '#f6f8f7',
};

const castellanLight: ITheme = {
  background: '#fdfdfb',
  foreground: '#22262a',
  cursor: '#1d5c63',
  cursorAccent: '#fdfdfb',
  selectionBackground: '#bfdedb',
  black: '#22262a',
  red: '#b3312c',
  green: '#24743b',
  yellow: '#8a5a00',
  blue: '#215fae',
  magenta: '#8a3aa8',
  cyan: '#0f6f73',
  white: '#8a8f93',
  brightBlack: '#5f666b',
  brightRed: '#c9453f',
  brightGreen: '#2f8a4a',
  brightYellow: '#9d6b0c',
  brightBlue: '#3273c8',
  brightMagenta: '#9f4fbd',
  brightCyan: '#1b8286',
  brightWhite: '#6e7478',
};

const contrast: ITheme = {
  background: '#000000',
  foreground: '#ffffff',
  cursor: '#ffffff',
  cursorAccent: '#000000',
  selectionBackground: '#3a66c4',
  black: '#000000',
  red: '#ff6b6b',
  green: '#5ff97f',
  yellow: '#ffe15a',
  blue: '#6fb0ff',
  magenta: '#f08cff',
  cyan: '#5ff1f1',
  white: '#e6e6e6',
  brightBlack: '#9a9a9a',
  brightRed: '#ff9c9c',
  brightGreen: '#a1ffb5',
  brightYellow: '#fff0a3',
  brightBlue: '#a9d0ff',
  brightMagenta: '#f8c0ff',
  brightCyan: '#a8fbfb',
  brightWhite: '#ffffff',
};

const paper: ITheme = {
  ...castellanLight,
  background: '#f7f0e1',
  foreground: '#3b3428',
  cursor: '#8a4b16',
  cursorAccent: '#f7f0e1',
  selectionBackground: '#e3d2ab',
  black: '#3b3428',
};

export const PALETTES: Record<string, Palette> = {
  dark: { name: 'Dark', dark: true, colours: castellanDark },
  light: { name: 'Light', dark: false, colours: castellanLight },
  contrast: { name: 'High contrast', dark: true, colours: contrast },
  paper: { name: 'Paper', dark: false, colours: paper },
};
