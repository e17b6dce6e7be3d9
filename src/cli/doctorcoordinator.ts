import { asFailure } from "../kit/failure.js";
import { type Finding, fine, stops, warns } from "../provision/preflight/finding.js";
import { coordinatorStatus, deviceInfo } from "../wire/adminapi.js";
import { callCoordinator, listAll } from "./admin.js";
import type { Call } from "./command.js";

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
    ];
  } catch (error) {
    const { code, message, advice } = asFailure(error);
    const name = /another certificate/.test(message) ? "certificate" : "connection";
    return [stops(name, code, message, advice === undefined ? {} : { advice })];
  }
}
