import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import type { Ssh } from "../sys/ssh.js";
import {
  API_PREFIX,
  type CreatedKey,
  createdKey,
  type DeviceInfo,
  deviceInfo,
  type KeyRequest,
} from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import { CALL_PROGRAM } from "./insideprogram.js";

/** What provisioning asks of a coordinator, wherever it runs. */
export interface Admin {
  createKey(request: KeyRequest): Promise<CreatedKey>;
  devices(): Promise<DeviceInfo[]>;
  /** Revokes the device and frees its name. */
  forget(idOrName: string): Promise<void>;
}

const devicesAnswer = z.object({ devices: z.array(deviceInfo) });
/** RFC 9457, with our code and advice. */
const problem = z.object({
  code: z.string(),
  detail: z.string().optional(),
  title: z.string().optional(),
  advice: z.string().optional(),
});
const CALL_TIMEOUT_MS = 15_000;

/** One request to the admin socket of the machine's coordinator: needs no token and no network but SSH. */
export async function callOverSsh(ssh: Ssh, method: string, path: string, body?: unknown): Promise<unknown> {
  const ran = await ssh.run(["node", "-e", CALL_PROGRAM, method, `${API_PREFIX}${path}`], {
    timeoutMs: CALL_TIMEOUT_MS,
    ...(body === undefined ? {} : { input: JSON.stringify(body) }),
  });
  if (ran.exitCode === 0) return tryJson(ran.stdout);
  const refused = problem.safeParse(tryJson(ran.stdout));
  if (refused.success)
    throw new Failure(refused.data.code, refused.data.detail ?? refused.data.title ?? refused.data.code, {
      advice: refused.data.advice,
    });
  // Only stderr: an answer may hold a join key.
  throw new Failure(
    "coordinator-unreachable",
    `the coordinator did not answer ${method} ${path}: ${ran.stderr.trim().slice(-300)}`,
    {
      advice: "exitnode logs NAME --unit coordinator",
    },
  );
}

/** The coordinator of a container. */
export function adminOverSsh(ssh: Ssh): Admin {
  const call = (method: string, path: string, body?: unknown): Promise<unknown> => callOverSsh(ssh, method, path, body);
  return {
    createKey: async (request) =>
      parseWith(createdKey, await call("POST", "/keys", request), "the coordinator's answer"),
    devices: async () => parseWith(devicesAnswer, await call("GET", "/devices"), "the coordinator's answer").devices,
    async forget(idOrName) {
      await call("DELETE", `/devices/${encodeURIComponent(idOrName)}`);
    },
  };
}
