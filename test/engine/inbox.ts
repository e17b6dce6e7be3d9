import type { Endpoint } from "../../src/kit/endpoint.js";
import type { DatagramSocket } from "../../src/sys/dgram.js";

const DEADLINE_MS = 60_000;

type Letter = { readonly datagram: Uint8Array; readonly from: Endpoint };

/** What came in, in order, one at a time. */
export class Inbox {
  readonly #socket: DatagramSocket | undefined;
  readonly #letters: Letter[] = [];
  #waiting: ((letter: Letter) => void) | undefined;

  constructor(socket?: DatagramSocket) {
    this.#socket = socket;
  }

  get port(): number {
    return this.#socket?.port ?? 0;
  }

  readonly take = (datagram: Uint8Array, from: Endpoint): void => {
    const letter = { datagram: new Uint8Array(datagram), from };
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#letters.push(letter);
    else waiting(letter);
  };

  send(to: Endpoint, datagram: Uint8Array): void {
    this.#socket?.send(to, datagram);
  }

  async next(): Promise<Letter> {
    const there = this.#letters.shift();
    if (there !== undefined) return there;
    // It also keeps the process alive, which sockets do not.
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing came in for ${DEADLINE_MS} ms`)), DEADLINE_MS);
    });
    const letter = new Promise<Letter>((resolve) => {
      this.#waiting = resolve;
    });
    return Promise.race([letter, late]).finally(() => clearTimeout(timer));
  }
}
