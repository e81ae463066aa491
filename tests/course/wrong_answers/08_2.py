import json


def _records(lines):
    return [json.loads(line) for line in lines[:-1]]


def torn_line_read(wanted, lines, retry_failed):
    """JSONDecodeError"""
    known = {json.loads(line)["key"] for line in lines}
    return [key for key in wanted if key not in known]


def asks_everything(wanted, lines, retry_failed):
    """a was answered"""
    return list(dict.fromkeys(wanted))


def torn_line_counts(wanted, lines, retry_failed):
    """the line of e is torn"""
    return [key for key in dict.fromkeys(wanted) if not any(f'"key": "{key}"' in line for line in lines)]


def twice(wanted, lines, retry_failed):
    """asked once"""
    known = {record["key"] for record in _records(lines)}
    return [key for key in wanted if key not in known]


def never_again(wanted, lines, retry_failed):
    """b failed: it is asked again"""
    known = {record["key"] for record in _records(lines)}
    return [key for key in dict.fromkeys(wanted) if key not in known]


def always_again(wanted, lines, retry_failed):
    """only if retry_failed"""
    known = {record["key"] for record in _records(lines) if record["answer"] is not None}
    return [key for key in dict.fromkeys(wanted) if key not in known]


def any_failure(wanted, lines, retry_failed):
    """the latest line counts"""
    known = {record["key"] for record in _records(lines)}
    failed = {record["key"] for record in _records(lines) if record["failure"] is not None}
    return [key for key in dict.fromkeys(wanted) if key not in known or (retry_failed and key in failed)]


def a_set(wanted, lines, retry_failed):
    """return a list"""
    return set(wanted) - {record["key"] for record in _records(lines)}


def in_another_order(wanted, lines, retry_failed):
    """keep the order"""
    known = {record["key"] for record in _records(lines)}
    return sorted(set(wanted) - known)
