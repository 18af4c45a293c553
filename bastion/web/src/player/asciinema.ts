/** asciinema-player as these pages use it: its look, and the events its types leave out. */
import * as AsciinemaPlayer from 'asciinema-player';
import 'asciinema-player/dist/bundle/asciinema-player.css';
import './theme.css';

export type Player = AsciinemaPlayer.Player;
export type Source = AsciinemaPlayer.Source;

export function create(source: object, element: HTMLElement, options: AsciinemaPlayer.Options): Player {
  return AsciinemaPlayer.create(source as Source, element, {
    terminalFontFamily: getComputedStyle(element).getPropertyValue('--mono'),
    theme: 'castellan',
    ...options,
  });
}

/** Listens to events that the player's types do not name, too. */
export function listen(player: Player, events: Record<string, (event: { message?: unknown }) => void>): void {
  const add = player.addEventListener.bind(player) as (name: string, run: (event: { message?: unknown }) => void) => void;
  for (const [name, run] of Object.entries(events)) add(name, run);
}
