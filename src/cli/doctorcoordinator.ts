import { asFailure } from "../kit/failure.js";
import { type Finding, fine, stops, warns } from "../provision/preflight/finding.js";
import { coordinatorStatus, deviceInfo } from "../wire/adminapi.js";
import { callCoordinator, listAll } from "./admin.js";
import type { Call } from "./command.js";
import { staleApps } from "./deviceactions.js";

/** The coordinator as this administrator reaches it. */
export async function lookAtCoordinator(call: Call): Promise<Finding[]> {
  try {
    const [status, devices] = await Promise.all([
      callCoordinator(call, coordinatorStatus, "GET", "/status"),
      listAll(call, "/devices", "devices", deviceInfo),
    ]);
    const exits = devices.filter(({ role, revokedAtMs }) => role === "exit-node" && revokedAtMs === undefined);
    return [
      fine("connection", `version ${status.version}`),
      ...exits.map(({ name, online }) =>
        online
          ? fine(`exit node ${name}`, "online")
          : warns("exit nodes", `${name} is not connected`, { advice: `exitnode status ${name}` }),
      ),
      ...staleApps(devices).map(({ what, advice }) => warns("WireGuard apps", what, { advice })),
    ];
  } catch (error) {
    const { code, message, advice: said } = asFailure(error);
    const advice = code === "coordinator-unreachable" ? AWAY : said;
    const name = /another certificate/.test(message) ? "certificate" : "connection";
    return [stops(name, code, message, advice === undefined ? {} : { advice })];
  }
}

/** Elsewhere the advice is to ask the doctor. */
const AWAY =
  "exitnode list                  (does the container that it runs in run, and are you in a network that reaches it?)\n" +
  "exitnode coordinator forget    (if it is gone for good)";
