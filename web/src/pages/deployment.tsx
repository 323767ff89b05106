// SPDX-License-Identifier: Apache-2.0
import { Page } from "../parts";

export function DeploymentPage({ id }: { id: string }) {
    return <Page title={id} />;
}
