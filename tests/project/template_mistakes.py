"""Broken templates, a change each: what linters are known to catch or miss, and what only this project can break."""

# A mistake a line reads best, however long.
# ruff: noqa: E501
# fmt: off

type Mistake = tuple[str, str, str]
"""What it is, a text of the template, and what stands there instead."""

KNOWN_MISTAKES: list[Mistake] = [
    ("OFF unquoted", 'FlexibleTimeWindow: {Mode: "OFF"}', "FlexibleTimeWindow: {Mode: OFF}"),
    ("misspelt event property", "ScheduleExpressionTimezone:", "ScheduleExpressionTimeZone:"),
    ("unknown event property", 'Input: "{}"', 'Inputs: "{}"'),
    ("wrong event type", "Type: HttpApi\n", "Type: HttpAPI\n"),
    ("policy template that does not exist", "Timeout: 60\n      Role: !GetAtt TimerRole.Arn", "Timeout: 60\n      Policies: [{DynamoDBCrudPolizy: {TableName: x}}]"),
    ("Ref of a missing resource", "LogGroup: !Ref SweepLog}", "LogGroup: !Ref SweepLogs}"),
    ("Timeout 901", "Timeout: 60\n      Role: !GetAtt TimerRole", "Timeout: 901\n      Role: !GetAtt TimerRole"),
    ("architecture arm", "Architectures: [arm64]", "Architectures: [arm]"),
    ("python3.11 with SnapStart", "Runtime: python3.13", "Runtime: python3.11\n    SnapStart: {ApplyOn: PublishedVersions}"),
    ("unused parameter", "        ONCETASK_CAP_CODES: !Ref CapCodes\n", ""),
    ("SnapStart without an alias", "MemorySize: 512", "SnapStart: {ApplyOn: PublishedVersions}"),
    ("no UpdateReplacePolicy", "    UpdateReplacePolicy: Retain\n    Properties: # as", "    Properties: # as"),
    ("python3.8", "Runtime: python3.13", "Runtime: python3.8"),
    ("python3.9", "Runtime: python3.13", "Runtime: python3.9"),
    ("python3.14", "Runtime: python3.13", "Runtime: python3.14"),
    ("python3.15", "Runtime: python3.13", "Runtime: python3.15"),
    ("memory 100", "MemorySize: 512", "MemorySize: 100"),
    ("AWS_REGION as a variable", "ONCETASK_CAP_CODES: !Ref", "AWS_REGION: !Ref"),
    ("retention 31", "RetentionInDays: !Ref LogRetentionDays", "RetentionInDays: 31"),
    ("wrong statistic", "Statistic: Maximum\n      Period: 60", "Statistic: Max\n      Period: 60"),
    ("bad GetAtt", "!GetAtt DeadLetters.QueueName", "!GetAtt DeadLetters.Name"),
    ("extra attribute definition", "- {AttributeName: open, AttributeType: S}", "- {AttributeName: open, AttributeType: S}\n        - {AttributeName: kind, AttributeType: S}"),
    ("rate(1 minutes)", "rate(1 minute)", "rate(1 minutes)"),
    ("rate(5 minute)", "rate(1 minute)", "rate(5 minute)"),
    ("wrong time zone", "    Default: UTC", "    Default: Europe/Berln"),
    ("function Timeout 60 behind the HTTP API", "Timeout: 20", "Timeout: 60"),
    ("missing CodeUri folder", "CodeUri: .", "CodeUri: source"),
    ("missing handler module", "oncetask.handlers.sweep.handler", "oncetask.handlers.sweeper.handler"),
    ("missing handler function", "oncetask.handlers.timer.handler", "oncetask.handlers.timer.handle_it"),
    ("Action *", "Action: [dynamodb:Query]", 'Action: "*"'),
    ("Action of a whole service", "Action: [dynamodb:Query]", 'Action: ["dynamodb:*"]'),
    ("access log without destination", "        DestinationArn: !GetAtt ApiLog.Arn\n", ""),
    ("no DeletionPolicy at all", "    DeletionPolicy: Retain # the only memory of what was asked\n    UpdateReplacePolicy: Retain\n", ""),
]
"""Those that fit: no function here reads a queue (VisibilityTimeout) or has a SnapStart to misuse."""

OWN_MISTAKES: list[Mistake] = [
    ("misspelt setting", "ONCETASK_EXTRA_TASK_TYPES:", "ONCETASK_EXTRA_TASKTYPES:"),
    ("no ledger", "        ONCETASK_LEDGER: !Sub dynamodb://${Ledger}\n", ""),
    ("no audience", "        ONCETASK_OIDC_AUDIENCE: !If [IsKeyless, !Ref OidcAudience, !Ref AWS::NoValue]\n", ""),
    ("another index", "IndexName: open", "IndexName: by-open"),
    ("another TTL attribute", "AttributeName: expires_s", "AttributeName: expires_at"),
    ("an index of everything", "ProjectionType: KEYS_ONLY", "ProjectionType: ALL"),
    ("no recovery", "PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false"),
    ("an action less", "dynamodb:BatchGetItem, ", ""),
    ("no permission on the index", "${Ledger.Arn}/index/open", "${Ledger.Arn}/index/closed"),
    ("a secret's default", '    NoEcho: true\n    Default: ""', "    NoEcho: true\n    Default: hunter2"),
    ("a shown secret", "    NoEcho: true\n    AllowedPattern", "    AllowedPattern"),
    ("a default region", "    AllowedValues: # those", "    Default: cn-shanghai\n    AllowedValues: # those"),
    ("a schedule for another route", '"route": "nightly-assets"', '"route": "nightly-asset"'),
    ("a misspelt placeholder", "<aws.scheduler.scheduled-time>", "<aws.scheduler.schedule-time>"),
    ("an impossible hour", "cron(30 2 * * ? *)", "cron(30 25 * * ? *)"),
    ("five fields of cron", "cron(30 2 * * ? *)", "cron(30 2 * * ?)"),
    ("a sweep that is tried again", "MaximumRetryAttempts: 0\n      MaximumEventAge", "MaximumRetryAttempts: 2\n      MaximumEventAge"),
    ("a tick that is lost", "        OnFailure: {Destination: !GetAtt DeadLetters.Arn}\n", ""),
    ("a sweep that may not be started", "[!GetAtt TimerFunction.Arn, !GetAtt SweepFunction.Arn]", "[!GetAtt TimerFunction.Arn]"),
    ("an early 429", "ThrottlingBurstLimit: 5000", "ThrottlingBurstLimit: 50"),
    ("a logged query string", '"$context.path"', '"$context.path?$request.querystring.token"'),
    ("another path", "Path: /webhooks/{route}", "Path: /webhook/{route}"),
    ("a silent sweep that nobody misses", "TreatMissingData: breaching", "TreatMissingData: notBreaching"),
    ("an alarm on no metric", "MetricName: SecondTask", "MetricName: SecondTasks"),
    ("an alarm on another namespace", "Namespace: OnceTask\n      MetricName: Failed", "Namespace: Oncetask\n      MetricName: Failed"),
    ("a broken dashboard", '["OnceTask", "Waiting", "service"', '["OnceTask", "Waiting" "service"'),
    ("a log of another function", "LogGroup: !Ref SweepLog}", "LogGroup: !Ref TimerLog}"),
    ("tokens for any audience", "ForAllValues:StringEquals: {sts:IdentityTokenAudience: [!Ref OidcAudience]}", 'StringLike: {sts:IdentityTokenAudience: "*"}'),
]
