/** Periods to look back over. */

export const PERIODS: [key: string, text: string, hours: number][] = [
  ['', 'Any time', 0],
  ['1h', 'Last hour', 1],
  ['24h', 'Last 24 hours', 24],
  ['7d', 'Last 7 days', 7 * 24],
  ['30d', 'Last 30 days', 30 * 24],
];

/** The query for a period: its beginning, or nothing for any time. */
export function period(key: string): { from?: string } {
  const hours = PERIODS.find(([name]) => name === key)?.[2] ?? 0;
  return hours ? { from: new Date(Date.now() - hours * 3_600_000).toISOString() } : {};
}
