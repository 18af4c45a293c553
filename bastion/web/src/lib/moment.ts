/** Finding one's place among moments that are in order. */

/** How many of `count` moments, `at(0)` first, are not after `t`. */
export function countUpTo(t: number, count: number, at: (n: number) => number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (at(middle) <= t) low = middle + 1;
    else high = middle;
  }
  return low;
}
