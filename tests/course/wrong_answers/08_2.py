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


def _answer(wanted, records, retry_failed):
    latest = {record["key"]: record for record in records}
    return [
        key
        for key in dict.fromkeys(wanted)
        if key not in latest or (retry_failed and latest[key]["failure"] is not None)
    ]


def swallows_torn_lines_anywhere(wanted, lines, retry_failed):
    """a line in the middle is torn and nobody is told"""
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return _answer(wanted, records, retry_failed)


def stops_at_a_torn_line(wanted, lines, retry_failed):
    """the file is damaged"""
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return _answer(wanted, records, retry_failed)


def drops_the_last_line(wanted, lines, retry_failed):
    """the last line was whole this time"""
    return _answer(wanted, _records(lines), retry_failed)


def another_error(wanted, lines, retry_failed):
    """raise a ValueError, not another error"""
    whole = [line for line in lines if line.endswith("}")]
    if any(line not in whole for line in lines[:-1]):
        raise RuntimeError("a torn line")
    return _answer(wanted, map(json.loads, whole), retry_failed)
