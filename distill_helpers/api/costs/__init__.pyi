from .budget import (
    Budget as Budget,
)
from .price_table import (
    Price as Price,
    PriceTable as PriceTable,
    load_prices as load_prices,
)
from .pricing import (
    cost_usd as cost_usd,
    estimate_api_distillation_cost as estimate_api_distillation_cost,
    with_charged_usage as with_charged_usage,
    worst_case_usage as worst_case_usage,
)
