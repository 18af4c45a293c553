/** Short messages at the edge of the page: what just happened. */

export interface Notice {
  id: number;
  text: string;
  tone: 'good' | 'bad';
}

class Notices {
  shown = $state<Notice[]>([]);
  #last = 0;

  good(text: string): void {
    this.#add(text, 'good', 4000);
  }

  bad(text: string): void {
    this.#add(text, 'bad', 9000);
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((notice) => notice.id !== id);
  }

  #add(text: string, tone: Notice['tone'], ms: number): void {
    const id = ++this.#last;
    this.shown = [...this.shown.slice(-3), { id, text, tone }];
    setTimeout(() => this.dismiss(id), ms);
  }
}

export const notices = new Notices();
