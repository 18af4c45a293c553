/** The present, in steps of a second, for "5 s ago". */
import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  return () => clearInterval(timer);
});

export const clock = {
  /** Milliseconds since the epoch; reactive. */
  get now(): number {
    subscribe();
    return Date.now();
  },
};
