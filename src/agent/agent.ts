import { type Endpoint, formatEndpoint, tryEndpoint } from "../kit/endpoint.js";
import { asFailure, Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Exec } from "../sys/exec.js";
import type { FetchText } from "../sys/fetchtext.js";
import type { Files } from "../sys/files.js";
import type { Log } from "../sys/log.js";
import type { NetInfo } from "../sys/netinfo.js";
import type { Random } from "../sys/random.js";
import type { Dial } from "../sys/websocket.js";
import { type AgentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { type AgentRequest, type AgentStatus, agentRequest, type WhoamiAnswer } from "../wire/agentsocket.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { Backend, InterfaceState } from "../wireguard/interface.js";
import { ControlClient } from "./control.js";
import { type Choice, exitOf, greetHeard, isExit, wantInterface } from "./desired.js";
import { candidates, nearestFirst, nextSearch, type Search } from "./endpoints.js";
import { type Identity, loadIdentity } from "./identity.js";
import { latestOnly } from "./latest.js";
import { type Memory, recall, rememberChoice, rememberHeard, rememberMap } from "./memory.js";
import { clearNetwork, setNetwork } from "./network.js";
import { describeDevice } from "./report.js";
import { describeStatus, type Line } from "./statusreport.js";
import { seenFrom } from "./whoami.js";

export type AgentParts = {
  readonly files: Files;
  readonly exec: Exec;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly dial: Dial;
  readonly fetchText: FetchText;
  netInfo(): NetInfo;
  /** `failed` is called when the data plane ends by itself. */
  openBackend(kind: "kernel" | "userspace", failed: (failure: Failure) => void): Promise<Backend>;
  probeKernel(): Promise<boolean>;
  /** The user this process runs as, whose other traffic keeps out of the tunnel; undefined for root. */
  readonly uid: number | undefined;
  readonly version: string;
  readonly folders: { readonly var: string };
  /** Called once the device works from its map, or waits for its first one. */
  ready(): void;
};

/** How often peers are looked at for endpoints that do not answer. */
export const LOOK_INTERVAL_MS: Millis = 2_000;
/** How often the machine's addresses are looked at; public ones are asked for every REPORT_ROUNDS-th time. */
export const REPORT_INTERVAL_MS: Millis = 15_000;
const REPORT_ROUNDS = 20;
/**
 * A peer notices by itself that its session is gone, after 15 s without an answer (WireGuard paper §6.2 and §6.5).
 * For this long after its start an exit node calls those it knew, and they need not wait.
 */
export const GREETING_MS: Millis = 20_000;

/** A device of the network: keeps its interface and routes as the map and the user's choice want them. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #config: AgentConfig;
  readonly #stop = new AbortController();
  readonly #searches = new Map<string, Search>();
  readonly #reconcile = latestOnly(() => this.#makeItSo());
  #identity: Identity | undefined;
  #memory: Memory = { map: undefined, choice: { exit: undefined }, heard: {} };
  #mapAt: Millis | undefined;
  #line: Line = { connected: false, reason: "not tried yet" };
  #backend: Backend | undefined;
  #seen: WhoamiAnswer = {};
  #control: ControlClient | undefined;
  #failure: Failure | undefined;
  /** Why the machine does not match the map, as the last try told; tried again until it does. */
  #trouble: string | undefined;
  /** Just started: peers of the run before are greeted, so that their sessions are renewed at once. */
  #greeting = false;
  #greetUntil: Millis = 0;

  constructor(parts: AgentParts, config: AgentConfig) {
    this.#parts = parts;
    this.#config = config;
  }

  /** Works until `signal` aborts, a shutdown is asked for, or the data plane fails for good. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, files, folders, log } = this.#parts;
    const stop = (): void => this.#stop.abort();
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    this.#identity = await loadIdentity(files, this.#parts.random, folders.var);
    this.#memory = await recall(files, folders.var);
    this.#greeting = this.#config.role === "exit-node";
    this.#greetUntil = clock.now() + GREETING_MS;
    this.#backend = await this.#openBackend();
    log.info("data plane open", { kind: this.#backend.kind });
    if (this.#memory.map !== undefined) await this.#try(this.#reconcile());
    this.#parts.ready();
    // What breaks one of them ends all, in order.
    const broken = (error: unknown): void => {
      this.#failure ??= asFailure(error);
      stop();
    };
    const tasks = [this.#talk(this.#identity), this.#look(), this.#observe()];
    await Promise.all(tasks.map((task) => task.catch(broken)));
    await this.#leave();
    log.info("stopped", { at: clock.wall() });
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Answers one request of the local socket. */
  async answer(value: unknown): Promise<unknown> {
    const request = agentRequest.safeParse(value);
    if (!request.success) return failed(new Failure("request-invalid", "the agent does not know that request"));
    try {
      return { ok: true, value: (await this.#act(request.data)) ?? null };
    } catch (error) {
      return failed(asFailure(error));
    }
  }

  async #act(request: AgentRequest): Promise<AgentStatus | WhoamiAnswer | undefined> {
    switch (request.do) {
      case "status":
        return this.#status();
      case "whoami":
        return seenFrom(this.#parts.fetchText, this.#whoamiUrls());
      case "use":
        return this.#use({ exit: request.exit ?? undefined });
      case "shutdown":
        this.#stop.abort();
        return undefined;
    }
  }

  async #use(choice: Choice): Promise<AgentStatus> {
    const { map } = this.#memory;
    if (choice.exit !== undefined && (map === undefined || exitOf(map, choice) === undefined)) {
      const exits = (map?.peers ?? []).filter(isExit).map(({ name }) => name);
      throw new Failure(
        "exit-unknown",
        `there is no exit node "${choice.exit}"; known: ${exits.join(", ") || "none"}`,
        {
          advice: exits[0] === undefined ? "exitnode status" : `exitnode use ${exits[0]}`,
        },
      );
    }
    this.#memory.choice = choice;
    await rememberChoice(this.#parts.files, this.#parts.folders.var, choice);
    await this.#reconcile();
    return this.#status();
  }

  async #status(): Promise<AgentStatus> {
    const { map, choice } = this.#memory;
    const held = map === undefined ? undefined : { map, ageMs: this.#mapAgeMs() };
    const state = await this.#state();
    const kind = this.#backend?.kind ?? "userspace";
    return describeStatus(this.#config, kind, this.#parts.version, this.#line, held, choice, state, [
      ...(this.#trouble === undefined ? [] : [this.#trouble]),
    ]);
  }

  #mapAgeMs(): Millis {
    return this.#mapAt === undefined ? 0 : this.#parts.clock.now() - this.#mapAt;
  }

  async #state(): Promise<InterfaceState | undefined> {
    return this.#backend?.state().catch(() => undefined);
  }

  async #openBackend(): Promise<Backend> {
    const { dataPlane } = this.#config;
    const kernel = dataPlane === "kernel" || (dataPlane === "auto" && (await this.#parts.probeKernel()));
    return this.#parts.openBackend(kernel ? "kernel" : "userspace", (failure) => {
      this.#failure = failure;
      this.#stop.abort();
    });
  }

  async #talk(identity: Identity): Promise<void> {
    const { files, folders, log, dial, clock, random } = this.#parts;
    const keyPath = `${folders.var}/${DEVICE_FILES.joinKey}`;
    const joinKey = await files.readText(keyPath);
    const joinSecret = joinKey === undefined ? undefined : decodeJoinKey(joinKey).secret;
    const { coordinator, name } = this.#config;
    this.#control = new ControlClient(
      { dial, clock, random, log },
      {
        urls: nearestFirst(coordinator.urls, this.#networks()),
        coordinatorKey: coordinator.publicKey,
        machineKey: identity.machine,
        hello: () => ({
          agentVersion: this.#parts.version,
          name,
          publicKey: identity.publicKey,
          report: this.#describe(),
          ...(joinSecret === undefined ? {} : { joinSecret }),
        }),
      },
      {
        onMap: (map) => this.#takeMap(map),
        onWelcome: () => void files.remove(keyPath),
        onRefused: ({ code, message, final }) => {
          this.#line = { connected: false, reason: message, refusal: final ? code : undefined };
          log.error("refused by the coordinator", { code, message });
        },
        onState: (state) => {
          this.#line = state.connected ? state : { ...this.#line, url: undefined, ...state };
        },
      },
    );
    await this.#control.run(this.#stop.signal);
  }

  #takeMap(map: NetworkMap): void {
    this.#memory.map = map;
    this.#mapAt = this.#parts.clock.now();
    void this.#try(Promise.all([rememberMap(this.#parts.files, this.#parts.folders.var, map), this.#reconcile()]));
  }

  async #makeItSo(): Promise<void> {
    const { map, choice } = this.#memory;
    if (map === undefined || this.#backend === undefined || this.#identity === undefined) return;
    if (this.#stop.signal.aborted) return;
    const networks = this.#networks();
    const endpointOf = (peer: MapPeer): Endpoint | undefined => {
      const list = this.#candidates(peer, networks);
      return list[(this.#searches.get(peer.id)?.at ?? 0) % Math.max(1, list.length)];
    };
    const want = wantInterface(this.#config, this.#identity.wireguardKey, map, choice, endpointOf);
    await this.#backend.set(this.#greeting ? greetHeard(want, this.#memory.heard) : want);
    await setNetwork(this.#parts, this.#config, map, choice);
    this.#trouble = undefined;
  }

  /** What goes wrong while working is said in `status` and tried again; it does not end the agent. */
  async #try(work: Promise<unknown>): Promise<void> {
    await work.catch((error: unknown) => {
      const { code, message } = asFailure(error);
      this.#trouble = message;
      this.#parts.log.error("cannot make the machine match the map", { code, message });
    });
  }

  /** Peers whose endpoint stays silent get their next one. */
  async #look(): Promise<void> {
    while (await this.#pause(LOOK_INTERVAL_MS)) {
      if (this.#trouble !== undefined) await this.#try(this.#reconcile());
      const { map, choice } = this.#memory;
      const state = await this.#state();
      if (map === undefined || state === undefined) continue;
      const networks = this.#networks();
      const exit = exitOf(map, choice);
      let moved = false;
      for (const peer of map.peers) {
        const seen = state.peers.find(({ publicKey }) => publicKey === peer.publicKey);
        // Only a peer that is written to can be expected to answer.
        if (peer !== exit && (seen?.sentBytes ?? 0) === 0) continue;
        const before = this.#searches.get(peer.id);
        const count = this.#candidates(peer, networks).length;
        const after = nextSearch(before, count, seen?.lastHandshakeAgeMs, this.#parts.clock.now());
        this.#searches.set(peer.id, after);
        moved ||= before !== undefined && before.at !== after.at;
      }
      for (const id of this.#searches.keys()) if (!map.peers.some((peer) => peer.id === id)) this.#searches.delete(id);
      await this.#noteHeard(state);
      const greeted = this.#greeting && this.#parts.clock.now() > this.#greetUntil;
      if (greeted) this.#greeting = false;
      if (moved || greeted) await this.#try(this.#reconcile());
    }
  }

  /** An exit node's peers are behind NATs of their own: where one was last heard from is the best guess there is. */
  #candidates(peer: MapPeer, networks: readonly Cidr[]): Endpoint[] {
    const heard = this.#config.role === "exit-node" ? tryEndpoint(this.#memory.heard[peer.publicKey] ?? "") : undefined;
    return [...(heard === undefined ? [] : [heard]), ...candidates(peer.endpoints, networks)];
  }

  async #noteHeard(state: InterfaceState): Promise<void> {
    if (this.#config.role !== "exit-node") return;
    const heard: Record<string, string> = {};
    for (const { publicKey, endpoint, lastHandshakeAgeMs } of state.peers)
      if (endpoint !== undefined && lastHandshakeAgeMs !== undefined) heard[publicKey] = formatEndpoint(endpoint);
    // Until a peer has answered in this run, what an earlier run heard stands.
    const all = this.#greeting ? { ...this.#memory.heard, ...heard } : heard;
    if (JSON.stringify(all) === JSON.stringify(this.#memory.heard)) return;
    this.#memory.heard = all;
    await this.#try(rememberHeard(this.#parts.files, this.#parts.folders.var, all));
  }

  /** Tells the coordinator when the machine's addresses have changed. */
  async #observe(): Promise<void> {
    let said = "";
    for (let round = 0; ; round++) {
      if (round % REPORT_ROUNDS === 0 && this.#config.role === "exit-node")
        this.#seen = await seenFrom(this.#parts.fetchText, this.#whoamiUrls());
      const report = this.#describe();
      if (JSON.stringify(report) !== said) this.#control?.report(report);
      said = JSON.stringify(report);
      if (!(await this.#pause(REPORT_INTERVAL_MS))) return;
    }
  }

  #describe(): ReturnType<typeof describeDevice> {
    return describeDevice(this.#config, this.#config.listenPort, this.#parts.netInfo(), this.#seen);
  }

  #whoamiUrls(): readonly string[] {
    const told = this.#memory.map?.whoami ?? [];
    return told.length > 0 ? told : this.#config.whoami;
  }

  #networks(): Cidr[] {
    return this.#parts
      .netInfo()
      .addresses.filter((address) => address.interface !== this.#config.interface)
      .map(({ network }) => network);
  }

  /** False when it is time to stop. */
  async #pause(duration: Millis): Promise<boolean> {
    await this.#parts.clock.sleep(duration, this.#stop.signal).catch(() => undefined);
    return !this.#stop.signal.aborted;
  }

  /**
   * An exit node's interface outlives its agent (a restart or an upgrade loses no packet under kernel WireGuard);
   * a person's machine gets its routing back.
   */
  async #leave(): Promise<void> {
    // What is being set at this moment would come after the clearing.
    await this.#try(this.#reconcile());
    if (this.#config.role === "exit-node" && this.#backend?.kind === "kernel") return;
    await clearNetwork(this.#parts, this.#config).catch((error: unknown) => {
      this.#parts.log.error("the machine's routing was not restored", { message: asFailure(error).message });
    });
    await this.#backend?.close();
  }
}

function failed(failure: Failure): unknown {
  return { ok: false, error: failure.toJSON() };
}
