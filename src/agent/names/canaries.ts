/** Look-ups that a leak test made, so that it can ask whether they came here. */
export const CANARIES_MAX = 64;

export class Canaries {
  readonly #seen = new Set<string>();

  /** The oldest is forgotten: a test asks at once. */
  note(token: string): void {
    this.#seen.delete(token);
    this.#seen.add(token);
    const [oldest] = this.#seen;
    if (this.#seen.size > CANARIES_MAX && oldest !== undefined) this.#seen.delete(oldest);
  }

  /** Those below a test's own name, without it. */
  under(name: string): string[] {
    const end = `.${name}`;
    return [...this.#seen].filter((token) => token.endsWith(end)).map((token) => token.slice(0, -end.length));
  }
}
