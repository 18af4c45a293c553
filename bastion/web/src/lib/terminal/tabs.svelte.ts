/** The terminals that are open; they live on while other pages are shown. */
import { Tab, type Target } from './tab.svelte';

class Tabs {
  all = $state.raw<Tab[]>([]);
  current = $state.raw<Tab | null>(null);
  readonly live = $derived(this.all.filter((tab) => tab.live).length);

  open(target: Target): void {
    const tab = new Tab(target);
    this.all = [...this.all, tab];
    this.current = tab;
  }

  show(tab: Tab): void {
    this.current = tab;
    tab.unseen = false;
  }

  close(tab: Tab): void {
    const index = this.all.indexOf(tab);
    tab.close();
    this.all = this.all.filter((other) => other !== tab);
    if (this.current === tab) this.current = this.all[Math.min(index, this.all.length - 1)] ?? null;
  }

  closeAll(): void {
    for (const tab of this.all) tab.close();
    this.all = [];
    this.current = null;
  }
}

export const tabs = new Tabs();
