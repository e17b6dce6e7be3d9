import { coordinatorStatus } from "../../wire/adminapi.js";
import { auditRoutes } from "./audit.js";
import { deviceRoutes } from "./devices.js";
import { keyRoutes } from "./keys.js";
import { lockRoutes } from "./lock.js";
import { nameRoutes } from "./names.js";
import { networkRouteRoutes } from "./networkroutes.js";
import type { ApiParts } from "./parts.js";
import { policyRoutes } from "./policy.js";
import { relayRoutes } from "./relays.js";
import { type Route, route } from "./route.js";
import { sessionRoutes } from "./session.js";
import { settingsRoutes } from "./settings.js";
import { tokenRoutes } from "./tokens.js";
import { userRoutes } from "./users.js";
import { webhookRoutes } from "./webhooks.js";

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
  ...settingsRoutes(parts),
  ...tokenRoutes(parts),
  ...policyRoutes(parts),
  ...networkRouteRoutes(parts),
  ...relayRoutes(parts),
  ...nameRoutes(parts),
  ...lockRoutes(parts),
  ...auditRoutes(parts),
  ...webhookRoutes(parts),
  ...userRoutes(parts),
  ...sessionRoutes(parts),
];
