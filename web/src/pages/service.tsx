// SPDX-License-Identifier: Apache-2.0
import { Page } from "../parts";

export function ServicePage({ project, name }: { project: string; name: string }) {
    return <Page title={`${project}/${name}`} />;
}
