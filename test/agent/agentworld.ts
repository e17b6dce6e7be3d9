import assert from "node:assert/strict";
import { Agent } from "../../src/agent/agent.js";
import type { AgentParts } from "../../src/agent/agentparts.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { formatEndpoint } from "../../src/kit/endpoint.js";
import { Failure } from "../../src/kit/failure.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { type AgentConfig, agentConfig } from "../../src/wire/agentconfig.js";
import { type AgentStatus, agentStatus } from "../../src/wire/agentsocket.js";
import type { MapPeer, NetworkMap } from "../../src/wire/map.js";
import { LabClock, settled } from "./labclock.js";
import { ModelCoordinator } from "./modelcoordinator.js";
import { ModelBackend, ModelMachine, modelFiles } from "./modelmachine.js";

const keyNamed = (name: string) => keyOf(hash(utf8(name)));
export const HOME: MapPeer = {
  id: "d0",
  name: "home",
  role: "exit-node",
  publicKey: keyNamed("home"),
  addresses: [parseIp("100.64.0.1")],
  routes: [parseCidr("0.0.0.0/0"), parseCidr("::/0")],
  endpoints: ["203.0.113.7:51820", "198.51.100.9:51820"],
  resolvers: [parseIp("100.64.0.1")],
  online: true,
};
export const PHONE: MapPeer = {
  ...HOME,
  id: "d2",
  name: "phone",
  role: "device",
  publicKey: keyNamed("phone"),
  addresses: [parseIp("100.64.0.3")],
  routes: [],
  endpoints: [],
  resolvers: [],
};
export const MAP: NetworkMap = {
  seq: 7,
  self: { id: "d1", name: "laptop", role: "device", addresses: [parseIp("100.64.0.2"), parseIp("fd7e:1::2")] },
  ranges: [parseCidr("100.64.0.0/10"), parseCidr("fd7e:1::/48")],
  mtu: 1280,
  peers: [HOME, PHONE],
};

/** One machine and its network; agents are started on it one after another. */
export class World {
  readonly clock = new LabClock();
  readonly coordinator = new ModelCoordinator(MAP);
  readonly machine = new ModelMachine();
  readonly disk = new Map<string, string>();
  readonly config: AgentConfig;
  backend: ModelBackend;
  ready = 0;
  readonly relaysDialed: string[] = [];
  kernel = false;
  /** Who answers look-ups, with nothing. */
  readonly resolvers = new Set<string>();
  fail: (failure: Failure) => void = () => assert.fail("no data plane yet");

  constructor(config: Record<string, unknown> = {}) {
    this.backend = new ModelBackend("userspace", this.machine);
    this.config = agentConfig.parse({
      name: "laptop",
      role: "device",
      coordinator: { urls: ["https://203.0.113.7"], publicKey: this.coordinator.publicKey },
      ...config,
    });
  }

  async start(): Promise<Running> {
    const parts: AgentParts = {
      files: modelFiles(this.disk),
      exec: this.machine.exec,
      clock: this.clock,
      random: systemRandom,
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      dial: this.coordinator.dial,
      fetchText: async () => undefined,
      dialRelay: async (url) => {
        this.relaysDialed.push(new URL(url).hostname);
        throw new Failure("relay-unreachable", `${url}: nothing listens there`);
      },
      lookUp: async (name) => parseIp(name),
      openSocket: async (port) => ({ port, onReceive: undefined, send: () => undefined, close: () => undefined }),
      fetchHttp: async () => undefined,
      netInfo: () => ({
        addresses: [{ interface: "eth0", ip: parseIp("192.168.7.2"), network: parseCidr("192.168.7.0/24") }],
        resolvers: [],
      }),
      openBackend: async (kind, failed) => {
        this.backend = new ModelBackend(kind, this.machine);
        this.fail = failed;
        return this.backend;
      },
      probeKernel: async () => this.kernel,
      uid: 995,
      nameService: {
        serve: async () => ({ port: 5_300, close: async () => undefined }),
        ask: async ({ address }, query) =>
          this.resolvers.has(address) ? query.map((byte, at) => (at === 2 ? byte | 0x80 : byte)) : undefined,
      },
      version: "test",
      folders: { var: "/var" },
      ready: () => this.ready++,
    };
    const agent = new Agent(parts, this.config);
    const stop = new AbortController();
    const running = new Running(agent, stop, agent.run(stop.signal));
    await settled();
    return running;
  }

  peers(): string[] {
    const names = new Map([HOME, PHONE].map(({ publicKey, name }) => [publicKey, name]));
    return (this.backend.want?.peers ?? []).map(({ publicKey }) => names.get(publicKey) ?? "a stranger");
  }

  /** Where datagrams for the exit node go now. */
  homeEndpoint(): string | undefined {
    const home = this.backend.want?.peers.find(({ publicKey }) => publicKey === HOME.publicKey);
    return home?.endpoint && formatEndpoint(home.endpoint);
  }
}

export class Running {
  readonly ended: Promise<void>;
  readonly #agent: Agent;
  readonly #stop: AbortController;

  constructor(agent: Agent, stop: AbortController, ended: Promise<void>) {
    this.#agent = agent;
    this.#stop = stop;
    this.ended = ended;
    ended.catch(() => undefined); // a test that expects it asks again
  }

  ask(request: unknown): Promise<unknown> {
    return this.#agent.answer(request);
  }

  async use(exit: string | null, ...others: string[]): Promise<AgentStatus> {
    return statusIn(await this.ask({ do: "use", exit, others }));
  }

  async status(): Promise<AgentStatus> {
    return statusIn(await this.ask({ do: "status" }));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.ended;
  }
}

const statusIn = (answer: unknown): AgentStatus => agentStatus.parse((answer as { value?: unknown }).value);
