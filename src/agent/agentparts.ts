import type { Failure } from "../kit/failure.js";
import type { Ip } from "../kit/ip.js";
import type { FetchText } from "../sys/fetchtext.js";
import type { Files } from "../sys/files.js";
import type { NameService } from "../sys/nameservice.js";
import type { Dial } from "../sys/websocket.js";
import type { Backend } from "../wireguard/interface.js";
import type { TraversalParts } from "./traversal.js";

/** The world as an agent is handed it. */
export type AgentParts = TraversalParts & {
  readonly files: Files;
  readonly dial: Dial;
  readonly fetchText: FetchText;
  /** `failed` is called when the data plane ends by itself. */
  openBackend(kind: "kernel" | "userspace", failed: (failure: Failure) => void): Promise<Backend>;
  probeKernel(): Promise<boolean>;
  /** Takes what addresses began, and what was begun to them, out of connection tracking. */
  forgetFlows?(addresses: readonly Ip[]): void;
  /** The user this process runs as, whose other traffic keeps out of the tunnel; undefined for root. */
  readonly uid: number | undefined;
  readonly nameService: NameService;
  readonly version: string;
  readonly folders: { readonly var: string };
  /** Called once the device works from its map, or waits for its first one. */
  ready(): void;
};
