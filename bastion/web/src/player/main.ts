/** Starts the player's page: a recording, or with `?live` the session itself while it goes on. */
import { mount } from 'svelte';
import '../app.css';
import Live from './Live.svelte';
import Player from './Player.svelte';

const target = document.getElementById('app');
const live = new URLSearchParams(location.search).has('live');
if (target) mount(live ? Live : Player, { target });
