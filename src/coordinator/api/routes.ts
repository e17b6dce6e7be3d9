import { coordinatorStatus } from "../../wire/adminapi.js";
import { deviceRoutes } from "./devices.js";
import { keyRoutes } from "./keys.js";
import type { ApiParts } from "./parts.js";
import { relayRoutes } from "./relays.js";
import { type Route, route } from "./route.js";

/** Every operation there is. */
export const apiRoutes = (parts: ApiParts): Route[] => [
  route({
    method: "GET",
    path: "/status",
    summary: "The coordinator itself",
    scope: "status:read",
    answer: coordinatorStatus,
    run: () => parts.status(),
  }),
  ...keyRoutes(parts),
  ...deviceRoutes(parts),
  ...relayRoutes(parts),
];
