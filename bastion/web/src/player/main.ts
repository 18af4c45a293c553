/** Starts the player's page. */
import { mount } from 'svelte';
import '../app.css';
import Player from './Player.svelte';

const target = document.getElementById('app');
if (target) mount(Player, { target });
