#!/bin/bash
# User data of spot instances (Amazon Linux 2023, systemd 250 or newer): a worker that gives its
# units back, uncharged, when the notice comes that the instance is taken in two minutes.
# The instance's role may read the parameter /optomatic/db (a SecureString with the URI).
set -euo pipefail
package=optomatic # or the address of a wheel that your instances can reach

dnf install -y -q python3.11 # the minor version of your clients
python3.11 -m venv /opt/optomatic
/opt/optomatic/bin/pip install -q "$package"

install -d -m 0700 /etc/optomatic
umask 077
uri=$(aws ssm get-parameter --name /optomatic/db --with-decryption --query Parameter.Value --output text)
printf "OPTOMATIC_DB='%s'\n" "$uri" > /etc/optomatic/worker.env

systemd-run --unit=optomatic-worker \
  --property=EnvironmentFile=/etc/optomatic/worker.env \
  --property=DynamicUser=yes --property=CacheDirectory=optomatic \
  --property=KillMode=mixed --property=TimeoutStopSec=100 \
  --property=OOMPolicy=continue --property=Restart=on-failure --property=RestartSec=10 \
  --setenv=OPTOMATIC_PROCESSES=auto --setenv=OPTOMATIC_GRACE=90 \
  --setenv=OPTOMATIC_CACHE_DIR=/var/cache/optomatic \
  /opt/optomatic/bin/python -m optomatic.worker

# The answer is 404 until there is a notice.  SIGTERM does the rest.
stop_at_notice() {
  local metadata=http://169.254.169.254/latest token
  until token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token) &&
    curl -sf -o /dev/null -H "X-aws-ec2-metadata-token: $token" $metadata/meta-data/spot/instance-action; do
    sleep 5
  done
  systemctl stop optomatic-worker
}
systemd-run --unit=optomatic-notice bash -c "$(declare -f stop_at_notice); stop_at_notice"
