import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import type { Endpoint } from "../kit/endpoint.js";
import { asFailure, Failure } from "../kit/failure.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import { Arena } from "../sys/arena.js";
import { type Libc, loadLibc } from "../sys/libc.js";
import { Bell } from "../sys/poll.js";
import type { Backend, InterfaceState, Probes, WantInterface } from "../wireguard/interface.js";
import type { ProbeIn, ProbeOut, Reply, Request, ThreadData } from "./messages.js";
import type { Offload } from "./offloads.js";

export type EngineParts = {
  /** The file that calls runWorker() when isEngineThread(). */
  readonly workerUrl: URL;
  /** To do without, as if the machine lacked them: for finding out what an offload is worth, and that each can be missing. */
  readonly without?: readonly Offload[];
  /** The thread ended by itself: the interface is gone with it. */
  readonly onFailed?: (failure: Failure) => void;
};

/** The thread answers within a turn, far below a millisecond; where the machine is starved, its start takes seconds. */
const REQUEST_TIMEOUT_MS: Millis = 30 * SECOND;
/** JavaScript memory of the thread; packets lie elsewhere, and 4,096 peers need a tenth of it. */
const HEAP_MEGABYTES_MAX = 64;
const YOUNG_MEGABYTES_MAX = 6;

type Waiting = { readonly resolve: (reply: Reply) => void; readonly reject: (failure: Failure) => void };

/** WireGuard in user space: a Backend whose packets are handled by a thread of their own, from the first set() on. */
export class Engine implements Backend {
  readonly kind = "userspace";
  readonly probes: Probes = {
    send: (to, datagram, whole = false) => this.#thread?.probe({ do: "probe", to, datagram, whole }),
    onReceive: undefined,
  };
  readonly #parts: EngineParts;
  #thread: Thread | undefined;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  async set(want: WantInterface): Promise<void> {
    const thread = this.#thread ?? this.#start();
    try {
      await thread.ask({ do: "set", want });
    } catch (error) {
      // A thread that never had an interface has nothing worth keeping.
      if (!thread.wasSet) await this.close();
      throw error;
    }
    thread.wasSet = true;
  }

  async point(publicKey: Key, endpoint: Endpoint): Promise<void> {
    await this.#thread?.ask({ do: "point", publicKey, endpoint });
  }

  async state(): Promise<InterfaceState> {
    const reply = await this.#thread?.ask({ do: "state" });
    if (reply === undefined || !("state" in reply) || reply.state === undefined)
      throw new Failure("interface-missing", "the userspace interface is not there");
    return reply.state;
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.close();
  }

  #start(): Thread {
    const thread = new Thread(loadLibc(), this.#parts, {
      onProbe: ({ datagram, from }) => this.probes.onReceive?.(datagram, from),
      onFailed: (failure) => {
        if (this.#thread === thread) this.#thread = undefined;
        this.#parts.onFailed?.(failure);
      },
    });
    this.#thread = thread;
    return thread;
  }
}

type Listener = { onProbe(probe: ProbeIn): void; onFailed(failure: Failure): void };

/** The thread as seen from outside: requests out, replies in, and its end. */
class Thread {
  wasSet = false;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #bell: Bell;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<void>;
  #nextId = 1;
  #closing = false;
  #failure: Failure | undefined;

  constructor(libc: Libc, { workerUrl, without = [] }: EngineParts, { onProbe, onFailed }: Listener) {
    const { port1, port2 } = new MessageChannel();
    this.#bell = new Bell(libc, new Arena(libc, 16));
    this.#port = port1;
    const data: ThreadData = { purpose: "exitnode-engine", port: port2, bellFd: this.#bell.fd, without };
    this.#worker = new Worker(workerUrl, {
      name: "exitnode-engine",
      workerData: data,
      transferList: [port2],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES_MAX, maxYoungGenerationSizeMb: YOUNG_MEGABYTES_MAX },
    });
    port1.on("message", (message: Reply | ProbeIn) => {
      if ("id" in message) this.#waiting.get(message.id)?.resolve(message);
      else onProbe(message);
    });
    this.#worker.on("error", (error) => {
      this.#failure = asFailure(error);
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.on("exit", (code) => {
        this.#bell.close();
        port1.close();
        const cause = this.#failure;
        const why = cause === undefined ? `it exited ${code}` : cause.message;
        const failure = new Failure("engine-stopped", `the packet engine stopped: ${why}`, { cause });
        for (const { reject } of this.#waiting.values()) reject(failure);
        this.#waiting.clear();
        if (!this.#closing) onFailed(failure);
        this.#closing = true;
        resolve();
      });
    });
  }

  async ask(request: WithoutId<Request>): Promise<Reply> {
    if (this.#closing) throw new Failure("engine-stopped", "the packet engine is stopped");
    const id = this.#nextId++;
    let timer: NodeJS.Timeout | undefined;
    try {
      const reply = await new Promise<Reply>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        timer = setTimeout(
          () => reject(new Failure("engine-silent", `the packet engine did not answer in ${REQUEST_TIMEOUT_MS} ms`)),
          REQUEST_TIMEOUT_MS,
        );
        this.#port.postMessage({ ...request, id });
        this.#bell.ring();
      });
      if ("failure" in reply) {
        const { code, message, advice } = reply.failure;
        throw new Failure(code, message, { advice });
      }
      return reply;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  async close(): Promise<void> {
    if (this.#closing) return this.#ended;
    const asked = this.ask({ do: "close" });
    this.#closing = true;
    await asked.catch(() => {
      // It hangs or is dead already: either way it ends now.
      void this.#worker.terminate();
      this.#bell.ring();
    });
    await this.#ended;
  }

  probe(probe: ProbeOut): void {
    if (this.#closing) return;
    this.#port.postMessage(probe);
    this.#bell.ring();
  }
}

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;
