"""Many tools: prompt tokens, recall, milliseconds with 100 and 1,000 of them: `python -m evals.bench.tool_selection`.

The tools are made: services of ten kinds (trackers, mail, calendars, files, shops, ...), and every service of a kind
has the same actions, so that each tool has near neighbours that differ by the service alone. The tasks are written by
hand in a person's words, seldom the description's; the service is named in them, as a person with five trackers would.
Recall at 10 is the share of tasks whose tool is among the first ten. Milliseconds are the thread's own CPU time: other
programs on the machine do not count. Tokens are counted by the embedded model's tokenizer where it is installed,
else as characters / 4.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from agent.selection import Index, choose
from tools.registry import Tool

SHOWN = 12
AT = 10
ROUNDS = 20

KINDS: dict[str, tuple[str, str]] = {
    "tracker": (
        "hubcode labforge jiranto trackly bugzap redmint forgejo linearo youtracker mantiso",
        """create_issue: Open a new issue in a project. | title, body, labels
        list_issues: List issues of a project, filtered by state or assignee. | state, assignee
        add_comment: Comment on an issue. | issue_id, text
        close_issue: Close an issue with a resolution. | issue_id, resolution
        assign_issue: Set who works on an issue. | issue_id, user
        create_pull_request: Propose merging one branch into another. | source, target, title
        list_commits: Show the history of a branch. | branch, since
        get_build_status: Status of the last pipeline run. | branch
        search_code: Search the source code of all repositories. | query
        create_release: Publish a release with notes. | tag, notes""",
    ),
    "mail": (
        "gomail postbird inboxa mailforge protonix outpost hushbox fastpost zephyrmail letterly",
        """send_message: Send an e-mail. | to, subject, body
        search_messages: Find messages by sender, subject or text. | query
        reply: Answer a message, quoting it. | message_id, body
        forward: Pass a message on to somebody else. | message_id, to
        mark_read: Mark messages as read or unread. | message_ids, read
        move_to_folder: Move messages into a folder. | message_ids, folder
        create_filter: Make a rule that sorts incoming mail. | condition, action
        download_attachment: Save a file attached to a message. | message_id, name
        schedule_send: Send an e-mail later at a given time. | to, body, send_at
        unsubscribe: Leave a mailing list. | list""",
    ),
    "calendar": (
        "calendo timely datebook plannerly agendum meetwise slotify dayplan schedulo chronos",
        """create_event: Put an appointment into the calendar. | title, start, end, attendees
        list_events: Events between two dates. | from, until
        cancel_event: Cancel an appointment and tell the attendees. | event_id
        move_event: Reschedule an appointment to another time. | event_id, start
        find_free_time: Find a time when all attendees are free. | attendees, duration
        invite: Add a guest to an appointment. | event_id, email
        set_reminder: Remind of an appointment beforehand. | event_id, minutes
        book_room: Reserve a meeting room. | room, start, end
        share_calendar: Let somebody see a calendar. | user, level
        set_working_hours: Set the hours in which meetings may be booked. | days, hours""",
    ),
    "storage": (
        "dropnest boxly drivehub cloudshelf filevault stashbin syncra packrat depotly archivo",
        """upload_file: Upload a file into a folder. | path, folder
        download_file: Download a file. | file_id
        share_link: Make a link with which others can open a file. | file_id, expires
        list_folder: What a folder holds. | folder
        delete_file: Put a file into the bin. | file_id
        restore_version: Bring an earlier version of a file back. | file_id, version
        search_files: Find files by name or content. | query
        move_file: Move a file into another folder. | file_id, folder
        get_quota: How much space is used and left. |
        set_permissions: Who may read or change a file. | file_id, user, role""",
    ),
    "shop": (
        "shopster cartly storefronto merchanta vendio marketo tradehub sellwise bazaro kiosko",
        """create_order: Place an order for a customer. | customer_id, items
        refund_order: Pay the money of an order back. | order_id, amount
        get_inventory: How many pieces of a product are in stock. | sku
        update_price: Change what a product costs. | sku, price
        list_customers: Customers, filtered by country or turnover. | country
        create_discount: Make a coupon code with a percentage off. | code, percent
        track_shipment: Where a parcel is. | order_id
        add_product: Add a product to the catalogue. | name, price, description
        sales_report: Turnover by day and product. | from, until
        cancel_order: Cancel an order that has not been sent. | order_id""",
    ),
    "data": (
        "postgrid mysqlo warehousa snowpond bigtablet duckling clickhouso redshiftly mariadba sqlitera",
        """run_query: Run a SQL query and return its rows. | sql
        list_tables: The tables of a database. | schema
        describe_table: Columns and types of a table. | table
        create_index: Speed queries up by an index on columns. | table, columns
        insert_rows: Add rows to a table. | table, rows
        export_csv: Write the result of a query as CSV. | sql, path
        create_backup: Make a backup of the database. | name
        restore_backup: Bring the database back to a backup. | name
        explain_query: Show the plan of a query and where its time goes. | sql
        grant_access: Let a user read or write tables. | user, table""",
    ),
    "operations": (
        "kubera nomadix dockyard cloudrun awsome azurely helmsman podium fleetly orbitops",
        """deploy_service: Roll out a new version of a service. | service, version
        scale_service: Change how many replicas run. | service, replicas
        get_logs: The newest log lines of a service. | service, lines
        restart_service: Restart all instances of a service. | service
        list_alerts: Alerts that are firing now. | severity
        silence_alert: Mute an alert for some hours. | alert_id, hours
        rollback: Go back to the version before. | service
        get_metrics: CPU, memory and latency over time. | service, metric
        create_secret: Store a password for services. | name, value
        list_nodes: Machines of the cluster and their load. |""",
    ),
    "people": (
        "peoplehub staffly hireon workdayo bamboo talentia rosterly onboardo payrolla teamwise",
        """add_employee: Enter a new colleague. | name, role, start
        request_leave: Ask for holidays. | employee, from, until
        approve_leave: Approve somebody's holidays. | request_id
        get_payslip: The payslip of a month. | employee, month
        list_candidates: Who applied for a position. | position
        schedule_interview: Fix an interview with a candidate. | candidate, start
        update_salary: Change what somebody earns. | employee, amount
        get_org_chart: Who reports to whom. |
        log_hours: Record hours worked on a project. | project, hours
        end_employment: Enter that somebody leaves. | employee, last_day""",
    ),
    "money": (
        "stripely paywise ledgerly billbot invoicio xerox quickbook fintrack bankly taxmate",
        """create_invoice: Write an invoice to a client. | client, lines, due
        send_reminder: Remind a client of an unpaid invoice. | invoice_id
        record_payment: Enter a payment that came in. | invoice_id, amount
        get_balance: What is in an account. | account
        transfer: Send money to another account. | from, to, amount
        list_transactions: Movements of an account. | account, since
        categorize_expense: Say which kind of cost something was. | transaction_id, category
        tax_report: What is owed to the tax office. | quarter
        create_subscription: Charge a client every month. | client, plan
        exchange_rate: What one currency costs in another. | base, quote""",
    ),
    "notes": (
        "notably evernest obsidio pagemint wikiwise docuhub scribbly paperly memoria craftdoc",
        """create_page: Write a new page. | title, text
        append_to_page: Add text to the end of a page. | page_id, text
        search_pages: Find pages by their text. | query
        move_page: Put a page under another. | page_id, parent
        add_tag: Tag a page. | page_id, tag
        page_history: Who changed a page and when. | page_id
        export_pdf: A page as PDF. | page_id
        create_table: Put a table into a page. | page_id, columns
        share_page: Invite somebody to a page. | page_id, email
        duplicate_page: Copy a page as a template. | page_id""",
    ),
}

TASKS = """
create_issue: file a bug on {}: the login button does nothing on Safari | report the crash in {} as a new issue
list_issues: which issues in {} are assigned to me and still open? | show me all the open {} issues
close_issue: the crash is fixed, close issue 341 on {} | mark {} issue 12 as closed, it was a duplicate
create_pull_request: open a pull request on {} from fix-login into main | propose merging my branch into develop on {}
get_build_status: did the last {} pipeline pass on main? | is the build green on {}?
send_message: send an email to ada@example.org with {} saying I will be late | write Bob an e-mail through {}
search_messages: find the message from the landlord about heating in {} | search my {} mail for the flight confirmation
download_attachment: save the attached contract from that {} message | get the attachment of the last message in {}
create_event: put a dentist appointment on Friday at 9 into {} | add a new appointment with Carla to my {} calendar
move_event: reschedule my {} appointment with Tom to Monday | move tomorrow's standup event in {} to 10
find_free_time: when are Ana and Luis both free next week, according to {}? | find a free hour for all attendees in {}
book_room: reserve the big meeting room on {} from 2 to 3 | book a room for twelve people with {}
upload_file: upload report.pdf to my {} folder | put this file into {}, in the folder invoices
share_link: give me a link to the {} file so that others can open it | share budget.xlsx from {} by link, until Friday
restore_version: bring back yesterday's version of the plan in {} | restore the earlier version of that {} file
refund_order: pay back order 7781 on {} | the customer returned the shoes, refund the {} order
get_inventory: how many pieces of SKU A-12 do we have in stock on {}? | check the {} stock of the blue mug
create_discount: make a coupon with 20 percent off for {} | create a discount code SUMMER in {}
track_shipment: where is the parcel of order 55 from {}? | track the shipment of my {} order
run_query: run this SQL on {}: select count(*) from users | query {} for the ten newest rows of orders
describe_table: which columns does the table users have in {}? | what are the column types of orders in {}
create_backup: make a backup of the {} database before we migrate | back up {} now
explain_query: why is this query slow on {}? show its plan | show where the time of that query goes in {}
deploy_service: roll out version 2.3 of checkout with {} | deploy the new version of the api service to {}
get_logs: show the last log lines of the payment service on {} | what do the {} logs of checkout say?
scale_service: run six replicas of web on {} | scale the worker service up on {}
rollback: go back to the previous version of web on {} | roll back the last release with {}, it is broken
request_leave: ask for holidays in August in {} | I want to take leave from Monday to Friday, enter it in {}
get_payslip: get my payslip for March from {} | where is last month's payslip in {}?
schedule_interview: set up an interview with the candidate Jo on {} | schedule a candidate interview for Tuesday in {}
create_invoice: write an invoice over 400 euros to ACME with {} | invoice the client for May in {}
send_reminder: ACME has not paid, remind them of the invoice with {} | send a reminder about the unpaid {} invoice
transfer: send 50 euros from savings to checking with {} | transfer money to the other {} account
exchange_rate: how many dollars is a euro today, ask {} | exchange rate of pound to yen in {}
create_page: start a new page about onboarding in {} | write up the meeting as a page in {}
search_pages: find the page on deployment in {} | where in {} did we write about the incident? search the pages
export_pdf: export the {} handbook page as PDF | I need that {} page as a pdf
"""


def tools(most: int) -> dict[str, Tool]:
    """So many tools, spread evenly over the services."""
    made = [
        tool
        for place in range(10)
        for services, actions in KINDS.values()
        for tool in _service(services, actions, place)
    ]
    return {tool.name: tool for tool in made[:most]}


def _service(services: str, actions: str, place: int) -> Iterator[Tool]:
    async def run(context: Any, /, **arguments: Any) -> str:
        return ""

    service = services.split()[place]
    for line in actions.splitlines():
        name, _, rest = line.strip().partition(": ")
        about, _, parameters = rest.partition(" | ")
        names = [parameter.strip() for parameter in parameters.split(",") if parameter.strip()]
        properties = {one: {"type": "string", "description": f"the {one.replace('_', ' ')}"} for one in names}
        schema = {"type": "object", "properties": properties, "required": names[:1]}
        text = f"{about} Works on the account of {service.capitalize()} that is configured."
        yield Tool(f"{service}__{name}", text, schema, run, "mcp", False, f"mcp:{service}", outside=True)


def tasks(known: dict[str, Tool]) -> list[tuple[str, str]]:
    """Every task with the tool that it needs: each phrasing for each service that is configured."""
    found = []
    for line in TASKS.strip().splitlines():
        action, _, phrasings = line.partition(": ")
        for number, phrasing in enumerate(phrasings.split(" | ")):
            fitting = [name for name in known if name.endswith(f"__{action}")]
            found += [(phrasing.format(name.partition("__")[0]), name) for name in fitting[number::2] or fitting]
    return found


def counter() -> Callable[[str], int]:
    """Counts the tokens of a text, by the embedded model's vocabulary if it is on this machine."""
    from agent.errors import ApprenticeError
    from agent.models import embedded
    from agent.settings import Settings

    try:
        from llama_cpp import Llama

        model = Llama(model_path=str(embedded.find(Settings())), vocab_only=True, verbose=False)
    except (ImportError, ApprenticeError):
        return lambda text: len(text) // 4
    return lambda text: len(model.tokenize(text.encode()))


def measure(most: int, count: Callable[[str], int]) -> str:
    """One line: tokens with all tools and with the offer, recall, milliseconds of the selection for one run."""
    known = tools(most)
    index, cases = Index(known), tasks(known)
    found = [index.best(text, SHOWN) for text, _ in cases]
    at_ten = statistics.mean(name in best[:AT] for best, (_, name) in zip(found, cases, strict=True))
    first = statistics.mean(best[:1] == [name] for best, (_, name) in zip(found, cases, strict=True))
    offer, taken = choose(known, cases[0][0], SHOWN), []
    for text, _ in cases[:ROUNDS]:
        gc.collect()  # a run selects once: the rounds before it are not its own
        started = time.thread_time()
        choose(known, text, SHOWN)
        taken.append((time.thread_time() - started) * 1000)
    tokens = [count(json.dumps([tool.schema for tool in shown.values()])) for shown in (known, offer)]
    recall = f"recall@{AT} {at_ten:.1%}, first {first:.1%} of {len(cases)} tasks"
    speed = f"{statistics.median(taken):.1f} ms of CPU ({min(taken):.1f} to {max(taken):.1f})"
    return f"{most:>5} tools: prompt {tokens[0]:>7,} -> {tokens[1]:,} tokens · {recall} · {speed}"


def main() -> None:
    """Print a line for 100 and for 1,000 tools."""
    count = counter()
    for most in (100, 1000):
        print(measure(most, count))


if __name__ == "__main__":
    main()
