import type { Millis } from "../../kit/time.js";

/** A running container as the host sees it. */
export type Running = {
  readonly pid: number;
  readonly uptimeSeconds: number;
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
};

/** What starts and stops containers: LXC, or a model of it where a test has no need of real ones. */
export interface Runtime {
  running(vmid: number): Running | undefined;
  /** Throws with the words of the task log's last line. */
  start(vmid: number, root: string, options: Record<string, string>): Promise<void>;
  /** Ends the container at once. */
  kill(vmid: number): Promise<void>;
  /** Asks it to shut down; false when it still runs after the time. */
  shutdown(vmid: number, timeoutMs: Millis, signal: AbortSignal): Promise<boolean>;
  /** All processes of a running container stand still, or go on. */
  freeze(vmid: number, frozen: boolean): Promise<void>;
  /** `ip --json address` in its network namespace. */
  addresses(vmid: number): Promise<string>;
  /** Applies changed limits and addresses to a running container. */
  update(vmid: number, before: Record<string, string>, after: Record<string, string>): Promise<void>;
  /** Removes what start left on disk. */
  forget(vmid: number): void;
}
